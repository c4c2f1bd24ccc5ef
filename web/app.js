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
const state = { leases: [], stats: new Map(), show: "alive", rows: ROWS, skew: 0, streaming: false, generation: 0 };

// ---- the service ------------------------------------------------------------------------------------------------

class HttpError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const headers = { ...options.headers, ...(token && { Authorization: "Bearer " + token }) };
  const signal = options.signal || AbortSignal.timeout(TIMEOUT_MS);
  const response = await fetch(path, { ...options, headers, signal, cache: "no-store", credentials: "omit" });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    const reasons = (problem.errors || []).map((error) => error.detail).join(" ");
    throw new HttpError(response.status, reasons || problem.detail || problem.title || "status " + response.status);
  }
  return response;
}

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

function facts(id, pairs) {
  show($(id), pairs, ([name]) => name, ([name, value]) => make("div", "", make("dt", "", name), make("dd", "", value)));
}

function sparkline(samples) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS(svg.namespaceURI, "polyline");
  const most = Math.max(...samples, 1);
  svg.setAttribute("viewBox", `0 0 ${SAMPLES - 1} 16`);
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("preserveAspectRatio", "none");
  const from = SAMPLES - samples.length;
  line.setAttribute("points", samples.map((bits, at) => `${from + at},${(15 - 14 * (bits / most)).toFixed(1)}`).join(" "));
  svg.append(line);
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
  const labels = Object.entries(lease.labels || {}).map(([key, value]) => key + "=" + value).join(" ");
  const over = lease.state === "terminated";
  const samples = over ? [] : stats?.samples ?? [];
  const traffic = samples.length ? make("div", "traffic", sparkline(samples), make("span", "", rate(samples.at(-1)))) : "–";
  const count = stats?.violations ?? null;
  const ended = lease.termination ? make("div", "faint", ENDED[lease.termination.reason] || words(lease.termination.reason)) : "";
  return make("tr", "",
    make("td", "", leaseLink(lease.id), make("div", "faint wrap", [imageName(lease), labels].filter(Boolean).join(" · "))),
    make("td", "", chip(lease.state), ended), make("td", "", modeCell(lease)),
    make("td", "", over ? "" : chip(lease.tunnel.state), make("div", "faint wrap", lease.consumer.endpoint)),
    make("td", "", traffic), make("td", "number" + (count > 0 ? " bad" : ""), count === null ? "–" : String(count)),
    make("td", "number", timeLeft(lease)));
}

function showLeases() {
  const { leases, rows, show: which } = state;
  show($("leases").tBodies[0], leases.slice(0, rows), (lease) => lease.id, leaseRow);
  $("leases").hidden = leases.length === 0;
  setText($("leases-count"), leases.length ? String(leases.length) : "");
  $("leases-empty").hidden = leases.length > 0;
  setText($("leases-empty"), which === "alive" ? "No lease is alive. POST /v1/leases, or omertad run, makes one." : "No lease has ended.");
  $("leases-more").hidden = leases.length <= rows;
  setText($("leases-more"), `Show all ${leases.length}`);
  for (const button of document.querySelectorAll("[data-show]"))
    button.setAttribute("aria-pressed", String(button.dataset.show === which));
}

function violationItem(violation, withLease) {
  const port = violation.destination_port ? ":" + violation.destination_port : "";
  const target = violation.destination_ip ? violation.destination_ip + port : "";
  const protocol = target && violation.ip_protocol ? ` (${PROTOCOLS[violation.ip_protocol] || "protocol " + violation.ip_protocol})` : "";
  const verdict = violation.verdict === "terminated" ? "the machine was ended" : "dropped";
  const times = violation.count > 1 ? `, ${violation.count} times` : "";
  const seen = violation.source === "filter" ? "" : ", says the guest itself";
  const item = make("li", violation.verdict === "terminated" ? "severe" : "warned", timeOf(violation.last_seen_at),
    make("p", "", ...(withLease ? [leaseLink(violation.lease_id), " "] : []),
      (TRIED[violation.code] || words(violation.code)) + (target ? " " + target + protocol : "") + ": " + verdict + times + seen));
  if (!withLease && violation.evidence) {
    const button = make("button", "small", "Evidence (pcapng)");
    Object.assign(button, { type: "button" }).dataset.evidence = violation.id;
    item.append(button);
  }
  return item;
}

function terminationItem(end) {
  const detail = end.detail ? make("div", "faint wrap", end.detail) : "";
  return make("li", ["released", "guest_shutdown", "lease_expired"].includes(end.reason) ? "calm" : "severe",
    timeOf(end.stopped_at),
    make("p", "", leaseLink(end.lease_id), " " + (ENDED[end.reason] || words(end.reason)), detail));
}

function showFeed(violations, ends) {
  const items = [...violations.map((row) => ({ at: row.last_seen_at, key: row.id, build: () => violationItem(row, true) })),
    ...ends.map((row) => ({ at: row.stopped_at, key: "end " + row.lease_id, build: () => terminationItem(row) }))];
  items.sort((a, b) => (String(a.at) < String(b.at) ? 1 : -1));
  show($("feed"), items.slice(0, FEED), (item) => item.key, (item) => item.build());
  $("feed-empty").hidden = items.length > 0;
}

function showNode(node, health) {
  const { total, used } = node.capacity;
  const meters = [["Leases", "leases", ""], ["Virtual CPUs", "vcpus", ""], ["Memory", "memory_mib", " MiB"], ["Disk", "disk_mib", " MiB"]];
  show($("capacity"), meters, ([name]) => name, ([name, key, unit]) => {
    const meter = Object.assign(make("meter"), { max: Math.max(total[key], 1), value: used[key], high: total[key] * 0.9 });
    meter.setAttribute("aria-label", name + " in use");
    return make("div", "", make("span", "faint", name), meter, make("span", "", `${used[key]} of ${total[key]}${unit}`));
  });
  const { accelerator } = node;
  facts("node", [
    ["Accelerator", (accelerator.known ? accelerator.name : "being tried") + (accelerator.reason ? ": " + accelerator.reason : "")],
    ["Modes offered", node.network.modes.join(", ")],
    ["Up", duration(Date.parse(node.time) - Date.parse(node.started_at))], ["Version", node.version]]);
  const draining = node.drain?.draining;
  $("node-health").className = "chip " + (draining ? "busy" : health === "ready" ? "good" : "bad");
  setText($("node-health"), draining ? "draining: no lease is taken, those that are there go on" : health);
}

// ---- one lease --------------------------------------------------------------------------------------------------

const openLease = () => (location.hash.match(/^#\/leases\/([0-9a-f-]{36})$/) || [])[1];

function showCounters(stats) {
  const rows = [...(stats?.from_guest || []).map((row) => ({ name: words(row.reason), count: row.frames, bad: row.violation, verdict: row.verdict })),
    ...(stats?.from_consumer || []).map((row) => ({ name: "from the consumer: " + words(row.outcome), count: row.packets, verdict: "" }))]
    .filter((row) => row.count > 0).sort((a, b) => b.count - a.count);
  const most = Math.log1p(rows[0]?.count || 1);
  show($("counters"), rows, (row) => row.name, (row) => {
    const bar = make("span", "fill " + (row.bad ? "bad" : row.verdict === "forward" || !row.verdict ? "good" : "off"));
    bar.style.width = Math.max(1, (100 * Math.log1p(row.count)) / most).toFixed(1) + "%";
    return make("li", "", make("span", "name", row.name), make("span", "track", bar), make("span", "number", row.count.toLocaleString()));
  });
  $("counters-empty").hidden = rows.length > 0;
}

// What may be had or not: a lease in direct mode has no policy, one that has ended no flows; the service says why.
const orReason = (promise) => promise.catch((error) => { if (!(error instanceof HttpError) || error.status === 401) throw error; return { reason: error.message }; });

function showEmpty(id, text) {
  setText($(id + "-empty"), text);
  $(id + "-empty").hidden = !text;
  $(id).hidden = Boolean(text);
}

function showPolicy(policy) {
  showEmpty("policy", policy.reason || "");
  const per = (bits, packets) => [bits && rate(bits), packets && packets.toLocaleString() + " packets/s"].filter(Boolean).join(", ") || "no limit";
  const { limits } = policy;
  facts("policy", policy.reason ? [] : [["Allowed, and nothing else", make("div", "", ...policy.allowlist.map((endpoint) => make("div", "id", endpoint)))],
    ["Enforced", chip(policy.enforcement)], ["Policy", `${policy.observed_generation} of ${policy.desired_generation}`],
    ["A violation", policy.on_violation === "terminate" ? "ends the machine" : "is dropped and told"],
    ...(policy.vm_endpoint === policy.consumer_endpoint ? [] : [["The machine knows its consumer as", make("span", "id", policy.vm_endpoint)]]),
    ["Limit out", per(limits.egress_bits_per_s, limits.egress_packets_per_s)], ["Limit in", per(limits.ingress_bits_per_s, limits.ingress_packets_per_s)],
    ...(policy.require_wireguard ? [["Only", "what has the shape of WireGuard"]] : [])]);
}

function showFlows(flows) {
  const rows = flows.items || [];
  showEmpty("flows", flows.reason || (rows.length ? "" : "None: the machine has sent nothing that may pass, or is silent."));
  const amount = (side) => `${side.packets.toLocaleString()} packets, ${side.payload_bytes.toLocaleString()} B`;
  show($("flows").tBodies[0], rows, (row) => row.guest_port + " " + row.endpoint, (row) => make("tr", "", make("td", "", String(row.guest_port)),
    make("td", "id", row.endpoint), make("td", "number", amount(row.from_guest)),
    make("td", "number" + (row.answered ? "" : " faint"), row.answered ? amount(row.from_consumer) : "no answer may come"), make("td", "", row.used_at ? timeOf(row.used_at) : "–")));
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
  const why = lease.termination ? (ENDED[lease.termination.reason] || words(lease.termination.reason)) + (lease.termination.detail ? ": " + lease.termination.detail : "") : lease.state_reason || "";
  $("detail-state").replaceChildren(chip(lease.state), " ", why);
  $("release").hidden = lease.state === "terminated" || lease.state === "stopping";
  const labels = Object.entries(lease.labels || {}).map(([key, value]) => key + "=" + value).join(", ");
  facts("facts", [["What is enforced", modeCell(lease)],
    ["Filter", words(lease.filter.enforcement)],
    ["Image", imageName(lease) + (lease.accelerator ? " on " + lease.accelerator : "")],
    ...(lease.attachment?.socket_path ? [["Socket", make("span", "id", lease.attachment.socket_path)]] : []),
    ["Resources", `${lease.resources.vcpus} vCPU, ${lease.resources.memory_mib} MiB, disk ${lease.resources.disk_mib} MiB`],
    ["Created", clock(lease.created_at)], ["Time left", timeLeft(lease)], ["Labels", labels || "–"], ["SSH user", lease.ssh?.user]]);
  facts("peers", [["Consumer", `${lease.consumer.endpoint}, ${lease.consumer.tunnel_ip} in the tunnel`], ["Consumer's key", make("span", "id", lease.consumer.public_key)],
    ["Machine", lease.vm.tunnel_ip + " in the tunnel"], ["Machine's key", make("span", "id", lease.vm.public_key)], ["Tunnel", chip(lease.tunnel.state)],
    ["Last handshake", clock(lease.tunnel.last_handshake_at)]]);
  const first = Date.parse(lease.created_at);
  show($("timeline"), events.items, (event) => event.sequence, (event) => make("li", "",
    make("span", "faint number", "+" + ((Date.parse(event.at) - first) / 1000).toFixed(1) + " s"),
    make("span", "", eventWords(event))));
  showCounters(stats);
  showPolicy(policy);
  showFlows(flows);
  show($("lease-violations"), violations, (row) => row.id, (row) => violationItem(row, false));
  $("lease-violations-empty").hidden = violations.length > 0;
  const tail = (text.reason ? "" : text).replace(/\r/g, "").replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "").replace(/[^\n\t\x20-\x7e\u00a0-\ud7ff]/g, "·").slice(-CONSOLE_CHARACTERS);
  const pane = $("console");
  const follow = pane.scrollTop + pane.clientHeight >= pane.scrollHeight - 8;
  setText(pane, tail || "The console has said nothing.");
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

// Rates of what is on the page, four requests at a time.
async function measure() {
  const wanted = state.leases.slice(0, Math.min(state.rows, MEASURED)).filter((lease) => lease.state === "running" && lease.network.mode !== "direct");
  const queue = [...wanted];
  await Promise.all([1, 2, 3, 4].map(async () => {
    for (let lease = queue.shift(); lease; lease = queue.shift()) {
      const stats = await get(`/v1/leases/${lease.id}/stats`).catch(() => null);
      if (!stats) continue;
      const bytes = [...stats.from_guest.filter((row) => row.verdict === "forward").map((row) => row.bytes),
        ...stats.from_consumer.filter((row) => row.outcome === "delivered").map((row) => row.bytes)].reduce((a, b) => a + b, 0);
      const before = state.stats.get(lease.id);
      const at = Date.parse(stats.read_at);
      const samples = before?.samples || [];
      if (before && at > before.at) samples.push(Math.max(0, ((bytes - before.bytes) * 8000) / (at - before.at)));
      state.stats.set(lease.id, { at, bytes, violations: stats.violations, samples: samples.slice(-SAMPLES) });
    }
  }));
  const known = new Set(state.leases.map((lease) => lease.id));
  for (const id of state.stats.keys()) if (!known.has(id)) state.stats.delete(id);
}

async function refreshOverview(withRates) {
  const states = state.show === "alive" ? LIVE : ["terminated"];
  const health = ask("/readyz").then(() => "ready", (error) => { if (error instanceof HttpError) return "not ready: " + error.message; throw error; });
  const [node, ready, violations, ends, ...leases] = await Promise.all([get("/v1/node"), health, newest("/v1/violations", FEED),
    newest("/v1/terminations", FEED), ...states.map((name) => newest("/v1/leases?state=" + name))]);
  state.skew = Date.parse(node.time) - Date.now();
  state.leases = leases.flat().sort((a, b) => (a.id < b.id ? 1 : -1));
  if (withRates) await measure();
  showNode(node, ready);
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
      if (error instanceof HttpError && error.status === 401) {
        const given = sessionStorage.getItem(TOKEN_KEY) !== null;
        sessionStorage.removeItem(TOKEN_KEY);
        state.generation++;
        askForToken(given ? "The service does not take this token." : "");
      } else if (error instanceof HttpError && error.status === 404 && openLease()) {
        location.hash = "#/";
        notice("There is no such lease.");
      } else {
        setConnection("disconnected", error instanceof HttpError ? error.message : "the service does not answer; trying again");
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
  const response = await ask("/v1/events?after=latest", { headers: { Accept: "text/event-stream" }, signal: new AbortController().signal });
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
