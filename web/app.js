"use strict";
// The status page. Everything that the service says is shown with textContent: guests and strangers choose some of it.

const POLL_MS = 2000;
const ROWS_MAX = 100; // of one list, the newest
const LIVE_STATES = ["pending", "preparing", "starting", "running", "stopping", "recovering"];
const TOKEN_KEY = "omertad-token";

const element = (id) => document.getElementById(id);

class HttpError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// ---- the service ------------------------------------------------------------------------------------------------

async function get(path) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const headers = token ? { Authorization: "Bearer " + token } : {};
  const response = await fetch(path, { headers, cache: "no-store", credentials: "omit" });
  const body = await response.json();
  if (!response.ok)
    throw new HttpError(response.status, body.detail || body.title || "status " + response.status);
  return body;
}

// The newest rows of a list: one page is more than anybody reads.
async function newest(path) {
  const answer = await get(path + (path.includes("?") ? "&" : "?") + "order=newest&limit=" + ROWS_MAX);
  return answer.items;
}

// ---- showing ----------------------------------------------------------------------------------------------------

function cell(text, className) {
  const td = document.createElement("td");
  td.textContent = text === null || text === undefined || text === "" ? "–" : String(text);
  if (className)
    td.className = className;
  return td;
}

function fillTable(id, rows, cellsOf) {
  const table = element(id);
  const body = document.createElement("tbody");
  for (const row of rows) {
    const tr = document.createElement("tr");
    tr.append(...cellsOf(row));
    body.append(tr);
  }
  table.tBodies[0].replaceWith(body);
  table.hidden = rows.length === 0;
  table.closest("section").querySelector(".empty").hidden = rows.length > 0;
  element(id + "-count").textContent = rows.length > 0 ? String(rows.length) : "";
}

const shortId = (id) => id.slice(0, 13) + "…" + id.slice(-4);
const clock = (time) => (time ? new Date(time).toLocaleString() : "–");

// The two largest units: "3 d 4 h", "12 min", "8 s".
function duration(ms) {
  let seconds = Math.max(0, Math.round(ms / 1000));
  const parts = [];
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    const count = Math.floor(seconds / size);
    seconds %= size;
    if (count > 0)
      parts.push(count + " " + unit);
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

function stateClass(state) {
  if (state === "running" || state === "established" || state === "enforcing")
    return "good";
  return state === "terminated" || state === "lost" || state === "none" ? "bad" : "busy";
}

function showNode(node) {
  const { total, used } = node.capacity;
  const share = (name, unit) => used[name] + " of " + total[name] + unit;
  const facts = [
    ["Version", node.version],
    ["Up", duration(Date.parse(node.time) - Date.parse(node.started_at))],
    ["Modes", node.network.modes.join(", ")],
    ["Accelerator", node.accelerator.known ? node.accelerator.name : "being probed"],
    ["Why", node.accelerator.reason],
    ["Leases", share("leases", "")],
    ["Virtual CPUs", share("vcpus", "")],
    ["Memory", share("memory_mib", " MiB")],
    ["Disk", share("disk_mib", " MiB")],
  ];
  element("node").replaceChildren(...facts.map(([name, value]) => {
    const group = document.createElement("div");
    const term = document.createElement("dt");
    const fact = document.createElement("dd");
    term.textContent = name;
    fact.textContent = value;
    group.append(term, fact);
    return group;
  }));
}

// "filtered", or "sampled 1 %".
function modeWords(network) {
  return network.sampling ? network.mode + " " + Number((network.sampling.rate * 100).toPrecision(4)) + " %" : network.mode;
}

function leaseCells(lease, now) {
  const { vcpus, memory_mib: memory } = lease.resources;
  return [
    cell(lease.state, stateClass(lease.state)),
    cell(shortId(lease.id), "id"),
    cell(lease.image ? lease.image.name : "external"),
    cell(vcpus + " vCPU, " + memory + " MiB"),
    cell(modeWords(lease.network)),
    cell(lease.on_violation),
    cell(lease.filter.enforcement.replace("_", " "), stateClass(lease.filter.enforcement)),
    cell(lease.tunnel.state, stateClass(lease.tunnel.state)),
    cell(lease.consumer.endpoint),
    cell(lease.expires_at ? duration(Date.parse(lease.expires_at) - now) : "no limit"),
  ];
}

function violationCells(violation) {
  const port = violation.destination_port ? ":" + violation.destination_port : "";
  return [
    cell(clock(violation.last_seen_at)),
    cell(violation.code.replaceAll("_", " "), "bad"),
    cell(violation.destination_ip ? violation.destination_ip + port : null),
    cell(violation.ip_protocol),
    cell(violation.count),
    cell(violation.verdict, violation.verdict === "terminated" ? "bad" : ""),
    cell(violation.mode),
    cell(violation.source === "filter" ? "provider" : "guest (untrusted)"),
    cell(shortId(violation.lease_id), "id"),
  ];
}

function terminationCells(termination) {
  return [
    cell(clock(termination.stopped_at)),
    cell(termination.reason.replaceAll("_", " ")),
    cell(termination.initiated_by),
    cell(shortId(termination.lease_id), "id"),
    cell(termination.image ?? "external"),
    cell(termination.detail, "wide"),
  ];
}

function newestFirst(rows, key) {
  return rows.sort((a, b) => (a[key] < b[key] ? 1 : -1));
}

// ---- the loop ---------------------------------------------------------------------------------------------------

function setConnection(state, text) {
  element("connection").dataset.state = state;
  element("connection").textContent = text;
  element("content").classList.toggle("stale", state !== "connected");
}

function askForToken(message) {
  element("token-form").hidden = false;
  element("content").hidden = true;
  element("forget").hidden = true;
  element("token-error").textContent = message;
  setConnection("waiting", "a token is needed");
}

async function refresh() {
  const node = await get("/v1/node");
  const now = Date.parse(node.time);
  const [violations, terminations, ...leases] = await Promise.all([
    newest("/v1/violations"),
    newest("/v1/terminations"),
    ...LIVE_STATES.map((state) => newest("/v1/leases?state=" + state)),
  ]);
  showNode(node);
  fillTable("leases", newestFirst(leases.flat(), "id"), (lease) => leaseCells(lease, now));
  fillTable("violations", newestFirst(violations, "last_seen_at"), violationCells);
  fillTable("terminations", newestFirst(terminations, "stopped_at"), terminationCells);
  element("token-form").hidden = true;
  element("content").hidden = false;
  element("forget").hidden = !sessionStorage.getItem(TOKEN_KEY);
  setConnection("connected", "connected");
}

async function poll() {
  let again = true;
  try {
    if (!document.hidden)
      await refresh();
  } catch (error) {
    if (error instanceof HttpError && error.status === 401) {
      const given = sessionStorage.getItem(TOKEN_KEY) !== null;
      sessionStorage.removeItem(TOKEN_KEY);
      askForToken(given ? "The service does not know this token." : "");
      again = false; // until a token is given
    } else if (error instanceof HttpError) {
      setConnection("disconnected", error.message);
    } else {
      setConnection("disconnected", "the service does not answer; trying again");
    }
  }
  if (again)
    setTimeout(poll, POLL_MS);
}

element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = element("token").value.trim();
  element("token").value = "";
  if (!token)
    return;
  sessionStorage.setItem(TOKEN_KEY, token);
  poll();
});

element("forget").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN_KEY);
});

poll();
