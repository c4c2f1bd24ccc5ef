# cloud-config.awk - compile the NoCloud documents into shell functions
#
# Input: meta-data, network-config and user-data as jansson prints them: JSON,
# one key or list item to a line, no escapes in strings.  That is all the JSON
# understood here.  Output, for eval by /init:
#
#	host_name, do_bootcmd, do_write_files, do_users, do_network, do_runcmd
#
# One pass, one process: a shell that parsed this would take a second under TCG.
# Every value is printed in single quotes.  On anything unexpected the reason is
# printed instead and the exit code is 1; /init then powers off.

function give_up(why) {
	print why
	failed = 1
	exit 1
}

function quote(text) {
	gsub(/'/, "'\\''", text)
	return "'" text "'"
}

# The value at a path, quoted; absent ones become ''.
function value(path) {
	if (path in escaped)
		give_up("escapes are not understood: " path)
	return quote(path in leaf ? leaf[path] : "")
}

# A list is a command and its arguments, a string is for the shell.
function command(path,    i, words) {
	if (path in leaf)
		return "sh -c " value(path)
	for (i = 0; i < size[path]; i++)
		words = words value(path "/" i) " "
	return words
}

function commands(key,    i, out) {
	for (i = 0; i < size["user-data/" key]; i++)
		out = out command("user-data/" key "/" i) " || return 1; "
	return "do_" key "() { " out ":; }\n"
}

function files(    i, path, out) {
	for (i = 0; i < size["user-data/write_files"]; i++) {
		path = "user-data/write_files/" i
		out = out "put_file " value(path "/path") " " \
			((path "/permissions") in leaf ? value(path "/permissions") : "0644") " " \
			value(path "/encoding") " " value(path "/content") " || return 1; "
	}
	return "do_write_files() { " out ":; }\n"
}

function users(    i, k, keys, path, out) {
	for (i = 0; i < size["user-data/users"]; i++) {
		path = "user-data/users/" i
		keys = ""
		for (k = 0; k < size[path "/ssh_authorized_keys"]; k++)
			keys = keys value(path "/ssh_authorized_keys/" k) "'\n'"
		out = out "put_user " value(path "/name") " " (keys ? keys : "''") " || return 1; "
	}
	return "do_users() { " out ":; }\n"
}

function network(    i, k, name, path, out) {
	for (i = 0; i < size["network-config/ethernets"]; i++) {
		path = "network-config/ethernets/" child["network-config/ethernets", i]
		name = (path "/set-name") in leaf ? value(path "/set-name") :
			quote(child["network-config/ethernets", i])
		out = out "put_link " name " " value(path "/match/macaddress") " " value(path "/mtu") " || return 1; "
		for (k = 0; k < size[path "/addresses"]; k++)
			out = out "put_address " name " " value(path "/addresses/" k) " || return 1; "
		for (k = 0; k < size[path "/routes"]; k++)
			out = out "put_route " name " " value(path "/routes/" k "/to") " " \
				value(path "/routes/" k "/via") " || return 1; "
	}
	return "do_network() { " out ":; }\n"
}

FNR == 1 {
	if (depth)
		give_up("cut short: " doc)
	doc = FILENAME
	if (doc == "user-data") {
		if ($0 != "#cloud-config")
			give_up("user-data does not begin with #cloud-config")
		next
	}
}

{
	sub(/^ +/, "")
	sub(/,$/, "")
	if ($0 == "")
		next
	if ($0 == "}" || $0 == "]") {
		if (--depth < 0)
			give_up("unbalanced: " doc)
		next
	}

	# Where this line stands: the document itself, a key, or the next list item.
	if (depth == 0) {
		if ($0 != "{" || closed[doc]++)
			give_up("not one JSON object: " doc)
		path = doc
	} else {
		parent = at[depth]
		key = size[parent] + 0
		if (match($0, /^"[^"]*": /)) {
			key = substr($0, 2, RLENGTH - 4)
			$0 = substr($0, RLENGTH + 1)
		}
		child[parent, size[parent]++] = key
		path = parent "/" key
	}

	if ($0 == "{" || $0 == "[") {
		at[++depth] = path
		next
	}
	if ($0 == "{}" || $0 == "[]")
		next
	if (/\\/)
		escaped[path] = 1
	if (/^".*"$/)
		$0 = substr($0, 2, length($0) - 2)
	else if (/["{}\[]/)
		give_up("not understood in " doc ": line " FNR)
	leaf[path] = $0
}

END {
	if (failed)
		exit 1
	if (depth)
		give_up("cut short: " doc)
	for (i = 1; i < ARGC; i++)
		if (!(ARGV[i] in closed))
			give_up("empty: " ARGV[i])
	plan = "host_name=" value("meta-data/local-hostname") "\n" commands("bootcmd") \
		files() users() network() commands("runcmd")
	printf "%s", plan
}
