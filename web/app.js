"use strict";
// The status page. All that the service says is shown as text nodes: guests and strangers choose some of it.

const POLL_MS = 2000; // counters, and everything while there is no stream
const SETTLE_MS = 150; // a burst of events is one refresh
const TIMEOUT_MS = 10000;
const PAGE = 200; // rows asked of a list, its most
const ROWS = 50; // rows shown until more are asked for
const FEED = 40;
const SAMPLES = 40; // of a sparkline
const MEASURED = 50; // leases whose counters are read
const CONSOLE_CHARACTERS = 20000;
const LIVE = ["pending", "preparing", "starting", "running", "stopping", "recovering"];
const TOKEN_KEY = "omertad-token";

const MODES = {
  filtered: ["Filtered", "every frame is checked"],
  conntrack: ["Conntrack", "first packet checked, then a table"],
  sampled: ["Sampled", "a share of the frames is checked"],
  direct: ["Direct", "nothing: the guest's firewall alone"],
};
const TRIED = {
  destination_not_allowed: "tried to reach", port_not_allowed: "tried another port,",
  protocol_not_allowed: "used another protocol to", source_mac_spoofed: "used a hardware address that is not its own, to",
  source_ip_spoofed: "used an address that is not its own, to", arp_spoofed: "claimed somebody's address by ARP",
  fragment: "sent a fragment to", ip_options: "sent IP options to", ipv6: "sent IPv6", vlan: "tagged a frame for a VLAN",
  malformed: "sent a malformed frame", not_wireguard: "sent what is not WireGuard to", rate_exceeded: "was too fast, to",
};
const ENDED = {
  released: "was released", lease_expired: "reached the end of its time", heartbeat_lost: "lost its orchestrator",
  policy_violation: "was ended for a violation", tunnel_timeout: "never got its tunnel up",
  tunnel_lost: "lost its consumer", guest_shutdown: "shut itself down", guest_crash: "crashed",
  vmm_crash: "lost its hypervisor", filter_failure: "lost its filter", start_failed: "could not start",
  start_timeout: "took too long to start", image_rejected: "was refused its image",
  provider_shutdown: "ended with the daemon", recovery_failed: "did not survive the daemon's restart",
};
const PROTOCOLS = { 1: "ICMP", 6: "TCP", 17: "UDP" };

const $ = (id) => document.getElementById(id);
const words = (name) => String(name).replaceAll("_", " ");
const joined = (glue, ...parts) => parts.filter(Boolean).join(glue);
const endWords = (reason) => ENDED[reason] || words(reason);
const labelsOf = (lease, glue) => Object.entries(lease.labels || {}).map((pair) => pair.join("=")).join(glue);
const state = { leases: [], stats: new Map(), show: "alive", rows: ROWS, skew: 0, streaming: false, generation: 0 };

// ---- the service ------------------------------------------------------------------------------------------------

// What the service refuses is an error with its status; where there is none, it did not answer.
async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const headers = { ...options.headers, ...(token && { Authorization: "Bearer " + token }) };
  const signal = options.signal || AbortSignal.timeout(TIMEOUT_MS);
  const response = await fetch(path, { ...options, headers, signal, cache: "no-store", credentials: "omit" });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    const reasons = (problem.errors || []).map((error) => error.detail).join(" ");
    const { status } = response;
    throw Object.assign(new Error(reasons || problem.detail || problem.title || "status " + status), { status });
  }
  return response;
}

// What may be had or not: a lease in direct mode has no policy, one that has ended no flows; the service says why.
const orReason = (promise) => promise.catch((error) => {
  if (!error.status || error.status === 401) throw error;
  return { reason: error.message };
});

const get = async (path) => (await ask(path)).json();
const newest = async (path, limit = PAGE) =>
  (await get(path + (path.includes("?") ? "&" : "?") + "order=newest&limit=" + limit)).items;

// ---- showing ----------------------------------------------------------------------------------------------------

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.map((child) => child ?? "–"));
  return node;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// What stands in the place of a list, or of anything else that is not there; "" when it is.
function instead(id, text) {
  setText($(id + "-empty"), text);
  $(id).hidden = Boolean(text);
}

// Make @parent's children those of @rows, in order. A child whose content is the same stays as it is: focus, selection
// and what a screen reader has said are kept.
function show(parent, rows, keyOf, build) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  rows.forEach((row, at) => {
    const fresh = build(row);
    fresh.dataset.key = keyOf(row);
    let child = old.get(fresh.dataset.key);
    old.delete(fresh.dataset.key);
    if (!child?.isEqualNode(fresh)) {
      const targets = "a, button";
      const focus = child ? [...child.querySelectorAll(targets)].indexOf(document.activeElement) : -1;
      child?.replaceWith(fresh);
      child = fresh;
      if (focus >= 0) child.querySelectorAll(targets)[focus]?.focus();
    }
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] || null);
  });
  old.forEach((child) => child.remove());
}

const shortId = (id) => id.slice(0, 8) + "…" + id.slice(-4);
const clock = (time) => (time ? new Date(time).toLocaleString() : "–");

// The time of day alone for today; the whole is in the title.
function timeOf(time) {
  const today = new Date(time).toDateString() === new Date().toDateString();
  const node = make("time", "faint", time && today ? new Date(time).toLocaleTimeString() : clock(time));
  return Object.assign(node, { title: clock(time), dateTime: time ?? "" });
}

const leaseLink = (id) => Object.assign(make("a", "id", shortId(id)), { href: "#/leases/" + id, title: id });

// The two largest units: "3 d 4 h", "12 min", "8 s".
function duration(ms) {
  let seconds = Math.max(0, Math.round(ms / 1000));
  const parts = [];
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    const count = Math.floor(seconds / size);
    seconds %= size;
    if (count > 0) parts.push(count + " " + unit);
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

function rate(bits) {
  for (const [size, unit] of [[1e9, "Gbit/s"], [1e6, "Mbit/s"], [1e3, "kbit/s"]])
    if (bits >= size) return (bits / size).toFixed(1) + " " + unit;
  return Math.round(bits) + " bit/s";
}

const TONES = {
  running: "good", established: "good", enforcing: "good", ready: "good",
  terminated: "off", ended: "off", lost: "bad", none: "bad", unready: "bad",
};
const chip = (name) => make("span", "chip " + (TONES[name] || "busy"), words(name));

const mono = (text) => make("div", "id", text);

// Pairs of a name and what stands for it; one that is false is left out.
function facts(id, pairs) {
  const build = ([name, value]) => make("div", "", make("dt", "", name), make("dd", "", value));
  show($(id), pairs.filter(Boolean), ([name]) => name, build);
}

// The page has one with an empty line, which needs no name space here.
function sparkline(samples) {
  const svg = $("spark").content.firstElementChild.cloneNode(true);
  const most = Math.max(...samples, 1);
  const from = SAMPLES - samples.length;
  const points = samples.map((bits, at) => `${from + at},${(15 - 14 * (bits / most)).toFixed(1)}`);
  svg.firstElementChild.setAttribute("points", points.join(" "));
  return svg;
}

function modeCell(lease) {
  const [name, enforces] = MODES[lease.network.mode] || [words(lease.network.mode), ""];
  const share = lease.network.sampling ? " " + Number((lease.network.sampling.rate * 100).toPrecision(4)) + " %" : "";
  const ends = lease.on_violation === "terminate" ? "; a violation ends it" : "";
  return make("div", "", make("strong", lease.network.mode === "direct" ? "bad" : "", name + share),
    make("div", "faint", enforces + ends));
}

// An external lease has none: somebody else runs the VM.
const imageName = (lease) => lease.image?.name ?? "external";

const timeLeft = (lease) => (lease.state === "terminated" ? "–" :
  lease.expires_at ? duration(Date.parse(lease.expires_at) - Date.now() - state.skew) : "no limit");

function leaseRow(lease) {
  const stats = state.stats.get(lease.id);
  const over = lease.state === "terminated";
  const samples = over ? [] : stats?.samples ?? [];
  const traffic = samples.length ? make("div", "traffic", sparkline(samples), make("span", "", rate(samples.at(-1)))) : null;
  const count = stats?.violations ?? null;
  const ended = lease.termination ? make("div", "faint", endWords(lease.termination.reason)) : "";
  const about = make("div", "faint wrap", joined(" · ", imageName(lease), labelsOf(lease, " ")));
  return make("tr", "", make("td", "", leaseLink(lease.id), about),
    make("td", "", chip(lease.state), ended), make("td", "", modeCell(lease)),
    make("td", "", over ? "" : chip(lease.tunnel.state), make("div", "faint wrap", lease.consumer.endpoint)),
    make("td", "", traffic), make("td", "number" + (count > 0 ? " bad" : ""), count === null ? "–" : String(count)),
    make("td", "number", timeLeft(lease)));
}

function showLeases() {
  const { leases, rows, show: which } = state;
  show($("leases").tBodies[0], leases.slice(0, rows), (lease) => lease.id, leaseRow);
  const none = which === "alive" ? "No lease is alive. POST /v1/leases, or omertad run, makes one." : "No lease has ended.";
  instead("leases", leases.length ? "" : none);
  setText($("leases-count"), leases.length ? String(leases.length) : "");
  $("leases-more").hidden = leases.length <= rows;
  setText($("leases-more"), `Show all ${leases.length}`);
  for (const button of document.querySelectorAll("[data-show]"))
    button.setAttribute("aria-pressed", String(button.dataset.show === which));
}

function violationItem(violation, withLease) {
  const { code, count, destination_ip: ip, destination_port: port, ip_protocol: number, source } = violation;
  const ended = violation.verdict === "terminated";
  const tried = joined(" ", TRIED[code] || words(code), ip && joined(":", ip, port),
    ip && number && `(${PROTOCOLS[number] || "protocol " + number})`);
  const became = joined(", ", ended ? "the machine was ended" : "dropped", count > 1 && `${count} times`,
    source !== "filter" && "says the guest itself");
  const link = withLease ? [leaseLink(violation.lease_id), " "] : [];
  const item = make("li", ended ? "severe" : "warned", timeOf(violation.last_seen_at),
    make("p", "", ...link, tried + ": " + became));
  if (!withLease && violation.evidence) {
    const button = make("button", "small", "Evidence (pcapng)");
    Object.assign(button, { type: "button" }).dataset.evidence = violation.id;
    item.append(button);
  }
  return item;
}

function terminationItem(end) {
  const detail = end.detail ? make("div", "faint wrap", end.detail) : "";
  return make("li", ["released", "guest_shutdown", "lease_expired"].includes(end.reason) ? "" : "severe", timeOf(end.stopped_at),
    make("p", "", leaseLink(end.lease_id), " " + endWords(end.reason), detail));
}

function showFeed(violations, ends) {
  const items = [...violations.map((row) => ({ at: row.last_seen_at, key: row.id, build: () => violationItem(row, true) })),
    ...ends.map((row) => ({ at: row.stopped_at, key: "end " + row.lease_id, build: () => terminationItem(row) }))];
  items.sort((a, b) => (String(a.at) < String(b.at) ? 1 : -1));
  show($("feed"), items.slice(0, FEED), (item) => item.key, (item) => item.build());
  instead("feed", items.length ? "" : "Nothing yet: no guest has tried anything, and no lease has ended.");
}

function showNode(node, health) {
  const { total, used } = node.capacity;
  const meters = [["Leases", "leases", ""], ["Virtual CPUs", "vcpus", ""], ["Memory", "memory_mib", " MiB"],
    ["Disk", "disk_mib", " MiB"]];
  show($("capacity"), meters, ([name]) => name, ([name, key, unit]) => {
    const meter = Object.assign(make("meter"), { max: Math.max(total[key], 1), value: used[key], high: total[key] * 0.9 });
    meter.setAttribute("aria-label", name + " in use");
    return make("div", "", make("span", "faint", name), meter, make("span", "", `${used[key]} of ${total[key]}${unit}`));
  });
  const { accelerator } = node;
  facts("node", [
    ["Accelerator", joined(": ", accelerator.known ? accelerator.name : "being tried", accelerator.reason)],
    ["Modes offered", node.network.modes.join(", ")],
    ["Up", duration(Date.parse(node.time) - Date.parse(node.started_at))], ["Version", node.version]]);
  const draining = node.drain?.draining;
  $("node-health").className = "chip " + (draining ? "busy" : health === "ready" ? "good" : "bad");
  setText($("node-health"), draining ? "draining: no lease is taken, those that are there go on" : health);
}

// ---- one lease --------------------------------------------------------------------------------------------------

const openLease = () => (location.hash.match(/^#\/leases\/([0-9a-f-]{36})$/) || [])[1];

function showCounters(stats) {
  const tone = (row) => (row.violation ? "bad" : row.verdict === "forward" ? "good" : "off");
  const rows = [...(stats.from_guest || []).map((row) => [words(row.reason), row.frames, tone(row)]),
    ...(stats.from_consumer || []).map((row) => ["from the consumer: " + words(row.outcome), row.packets, "good"])]
    .filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]);
  const most = Math.log1p(rows[0]?.[1]);
  show($("counters"), rows, ([name]) => name, ([name, count, kind]) => {
    const bar = make("span", "fill " + kind);
    bar.style.width = Math.max(1, (100 * Math.log1p(count)) / most).toFixed(1) + "%";
    return make("li", "", make("span", "", name), make("span", "track", bar), make("span", "number", count.toLocaleString()));
  });
  instead("counters", rows.length ? "" : "No counters: there is no machine, or nothing enforces.");
}

function showPolicy(policy) {
  instead("policy", policy.reason || "");
  if (policy.reason) return;
  const { limits } = policy;
  const per = (bits, packets) =>
    joined(", ", bits && rate(bits), packets && packets.toLocaleString() + " packets/s") || "no limit";
  facts("policy", [["Allowed, and nothing else", make("div", "", ...policy.allowlist.map(mono))],
    ["Enforced", chip(policy.enforcement)], ["Policy", `${policy.observed_generation} of ${policy.desired_generation}`],
    ["A violation", policy.on_violation === "terminate" ? "ends the machine" : "is dropped and told"],
    policy.vm_endpoint !== policy.consumer_endpoint && ["The machine knows its consumer as", mono(policy.vm_endpoint)],
    ["Limit out", per(limits.egress_bits_per_s, limits.egress_packets_per_s)],
    ["Limit in", per(limits.ingress_bits_per_s, limits.ingress_packets_per_s)],
    policy.require_wireguard && ["Only", "what has the shape of WireGuard"]]);
}

function showFlows(flows) {
  const rows = flows.items || [];
  instead("flows", flows.reason || (rows.length ? "" : "None: the machine has sent nothing that may pass, or is silent."));
  const amount = (side) => `${side.packets.toLocaleString()} packets, ${side.payload_bytes.toLocaleString()} B`;
  show($("flows").tBodies[0], rows, (row) => row.guest_port + " " + row.endpoint, (row) => make("tr", "",
    make("td", "", String(row.guest_port)), make("td", "id", row.endpoint), make("td", "number", amount(row.from_guest)),
    make("td", "number" + (row.answered ? "" : " faint"), row.answered ? amount(row.from_consumer) : "no answer may come"),
    make("td", "", row.used_at && timeOf(row.used_at))));
}

// "state changed: running", "violation detected: destination not allowed".
function eventWords(event) {
  const { to, reason, code } = event.data || {};
  const what = to ?? reason ?? code;
  return words(event.type.replace(/^lease\.|\./g, (part) => (part === "." ? " " : ""))) + (what ? ": " + words(what) : "");
}

async function refreshDetail(id) {
  const [lease, violations, events, stats, text, policy, flows] = await Promise.all([
    get("/v1/leases/" + id), newest(`/v1/leases/${id}/violations`, ROWS), get(`/v1/events?limit=${PAGE}&lease_id=${id}`),
    orReason(get(`/v1/leases/${id}/stats`)), orReason(ask(`/v1/leases/${id}/console`).then((answer) => answer.text())),
    orReason(get(`/v1/leases/${id}/policy`)), orReason(get(`/v1/leases/${id}/flows`))]);
  if (openLease() !== id) return;
  setText($("detail-title"), "Lease " + lease.id);
  const { consumer, resources, termination, tunnel, vm } = lease;
  const why = termination ? joined(": ", endWords(termination.reason), termination.detail) : lease.state_reason;
  $("detail-state").replaceChildren(chip(lease.state), " ", why || "");
  $("release").hidden = ["terminated", "stopping"].includes(lease.state);
  facts("facts", [["What is enforced", modeCell(lease)], ["Filter", words(lease.filter.enforcement)],
    ["Image", joined(" on ", imageName(lease), lease.accelerator)],
    lease.attachment?.socket_path && ["Socket", mono(lease.attachment.socket_path)],
    ["Resources", `${resources.vcpus} vCPU, ${resources.memory_mib} MiB, disk ${resources.disk_mib} MiB`],
    ["Created", clock(lease.created_at)], ["Time left", timeLeft(lease)], ["Labels", labelsOf(lease, ", ") || "–"],
    ["SSH user", lease.ssh?.user]]);
  facts("peers", [["Consumer", `${consumer.endpoint}, ${consumer.tunnel_ip} in the tunnel`],
    ["Consumer's key", mono(consumer.public_key)], ["Machine", vm.tunnel_ip + " in the tunnel"],
    ["Machine's key", mono(vm.public_key)], ["Tunnel", chip(tunnel.state)], ["Last handshake", clock(tunnel.last_handshake_at)]]);
  const first = Date.parse(lease.created_at);
  show($("timeline"), events.items, (event) => event.sequence, (event) => make("li", "",
    make("span", "faint number", "+" + ((Date.parse(event.at) - first) / 1000).toFixed(1) + " s"),
    make("span", "", eventWords(event))));
  showCounters(stats);
  showPolicy(policy);
  showFlows(flows);
  show($("lease-violations"), violations, (row) => row.id, (row) => violationItem(row, false));
  instead("lease-violations", violations.length ? "" : "None.");
  showConsole(text.reason ? "" : text);
}

// The end of it, without what would steer a terminal. Who reads further up stays there.
function showConsole(text) {
  const plain = text.replace(/\r|\x1b\[[0-9;?]*[A-Za-z]/g, "").replace(/[^\n\t\x20-\x7e\u00a0-\ud7ff]/g, "·");
  const pane = $("console");
  const follow = pane.scrollTop + pane.clientHeight >= pane.scrollHeight - 8;
  setText(pane, plain.slice(-CONSOLE_CHARACTERS) || "The console has said nothing.");
  if (follow) pane.scrollTop = pane.scrollHeight;
}

async function download(id) {
  const blob = await (await ask(`/v1/violations/${id}/evidence`)).blob();
  const link = Object.assign(make("a"), { href: URL.createObjectURL(blob), download: `violation-${id}.pcapng` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), TIMEOUT_MS);
}

// ---- the loop ---------------------------------------------------------------------------------------------------

function setConnection(name, text) {
  $("connection").dataset.state = name;
  setText($("connection"), text);
  document.body.classList.toggle("stale", name === "disconnected");
}

function notice(text) {
  $("notice").hidden = !text;
  setText($("notice"), text);
}

function askForToken(message) {
  for (const id of ["overview", "detail", "loading", "forget"]) $(id).hidden = true;
  $("token-form").hidden = false;
  setText($("token-error"), message);
  setConnection("waiting", "a token is needed");
  $("token").focus();
}

// What a lease's machine sends and gets, as a rate since the last time.
async function measure(lease) {
  const stats = await get(`/v1/leases/${lease.id}/stats`).catch(() => null);
  if (!stats) return;
  const passed = [...stats.from_guest.filter((row) => row.verdict === "forward"),
    ...stats.from_consumer.filter((row) => row.outcome === "delivered")];
  const bytes = passed.reduce((sum, row) => sum + row.bytes, 0);
  const at = Date.parse(stats.read_at);
  const before = state.stats.get(lease.id);
  const samples = before?.samples || [];
  if (before && at > before.at) samples.push(Math.max(0, ((bytes - before.bytes) * 8000) / (at - before.at)));
  state.stats.set(lease.id, { at, bytes, violations: stats.violations, samples: samples.slice(-SAMPLES) });
}

// Of what is on the page; the browser itself keeps to a few requests at a time.
async function measureAll() {
  const seen = state.leases.slice(0, Math.min(state.rows, MEASURED));
  await Promise.all(seen.filter((lease) => lease.state === "running" && lease.network.mode !== "direct").map(measure));
  const known = new Set(state.leases.map((lease) => lease.id));
  for (const id of state.stats.keys()) if (!known.has(id)) state.stats.delete(id);
}

async function refreshOverview(withRates) {
  const states = state.show === "alive" ? LIVE : ["terminated"];
  const [node, health, violations, ends, ...leases] = await Promise.all([get("/v1/node"), orReason(ask("/readyz")),
    newest("/v1/violations", FEED), newest("/v1/terminations", FEED),
    ...states.map((name) => newest("/v1/leases?state=" + name))]);
  state.skew = Date.parse(node.time) - Date.now();
  state.leases = leases.flat().sort((a, b) => (a.id < b.id ? 1 : -1));
  if (withRates) await measureAll();
  showNode(node, health.reason ? "not ready: " + health.reason : "ready");
  showLeases();
  showFeed(violations, ends);
}

async function refresh(withRates) {
  const id = openLease();
  if (id) await refreshDetail(id);
  else await refreshOverview(withRates);
  for (const part of ["token-form", "loading"]) $(part).hidden = true;
  $("detail").hidden = !id;
  $("overview").hidden = Boolean(id);
  $("forget").hidden = !sessionStorage.getItem(TOKEN_KEY);
  setConnection("connected", state.streaming ? "live" : "connected");
}

// One refresh at a time; one that is asked for meanwhile follows.
let running = null;
let again = false;
function update(withRates = false) {
  again = running !== null;
  running ??= (async () => {
    try {
      if (!document.hidden) await refresh(withRates);
      return true;
    } catch (error) {
      if (error.status === 401) {
        const given = sessionStorage.getItem(TOKEN_KEY) !== null;
        sessionStorage.removeItem(TOKEN_KEY);
        state.generation++;
        askForToken(given ? "The service does not take this token." : "");
      } else if (error.status === 404 && openLease()) {
        location.hash = "#/";
        notice("There is no such lease.");
      } else {
        setConnection("disconnected", error.status ? error.message : "the service does not answer; trying again");
      }
      return false;
    } finally {
      running = null;
      if (again) settle();
    }
  })();
  return running;
}

let settling = 0;
function settle() {
  settling ||= setTimeout(() => {
    settling = 0;
    update();
  }, SETTLE_MS);
}

// Each event means that something is to be read anew; what it says is not used. A service without a stream is polled.
async function follow(generation) {
  const signal = new AbortController().signal; // of nobody: it may last
  const response = await ask("/v1/events?after=latest", { headers: { Accept: "text/event-stream" }, signal });
  if (!(response.headers.get("Content-Type") || "").startsWith("text/event-stream")) return;
  const reader = response.body.getReader();
  state.streaming = true;
  for (let part = await reader.read(); !part.done && generation === state.generation; part = await reader.read()) settle();
  reader.cancel();
}

async function live() {
  const generation = ++state.generation;
  if (!(await update(true)) && !$("token-form").hidden) return;
  (async () => {
    while (generation === state.generation) {
      await follow(generation).catch(() => null);
      state.streaming = false;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  })();
  while (generation === state.generation) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (generation === state.generation) await update(true);
  }
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN_KEY, $("token").value.trim());
  $("token").value = "";
  live();
});
$("forget").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN_KEY);
  live();
});
$("leases-more").addEventListener("click", () => {
  state.rows = Infinity;
  showLeases();
});
document.addEventListener("visibilitychange", settle);
addEventListener("hashchange", async () => {
  notice("");
  await update();
  (openLease() ? $("detail-title") : $("main")).focus();
});
document.addEventListener("click", async (event) => {
  const { show: which, evidence } = event.target.dataset;
  if (which) {
    Object.assign(state, { show: which, rows: ROWS });
    update();
  }
  if (evidence) await download(evidence).catch((error) => notice("The evidence cannot be had: " + error.message));
});
$("release").addEventListener("click", () => {
  setText($("confirm-id"), openLease());
  $("confirm").returnValue = "keep";
  $("confirm").showModal();
});
$("confirm").addEventListener("close", async () => {
  if ($("confirm").returnValue !== "release") return;
  await ask("/v1/leases/" + $("confirm-id").textContent, { method: "DELETE" })
    .catch((error) => notice("The lease was not released: " + error.message));
  settle();
});

live();
