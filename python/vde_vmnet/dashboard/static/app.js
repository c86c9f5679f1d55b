// The page: asks for what there is once a second, makes rates of it, shows it. Everything that a guest chose is text.

import { Picture, sparkline, svg } from "/static/picture.js";

const $ = (id) => document.getElementById(id);
const EVERY = 1000, EVERYTHING_EVERY = 3, HISTORY = 60;
const picture = new Picture($("picture"), choose);
const state = { before: null, histories: new Map(), chosen: null, rounds: 0, network: null, ports: [], recording: null };

// -- words ----------------------------------------------------------------------------------------------------------

function bits(value) {
  const units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toPrecision(2)} ${units[unit]}`;
}

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${unit ? value.toPrecision(3) : value} ${units[unit]}`;
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  for (const [size, word] of parts) if (seconds >= size || size === 1) return `${Math.floor(seconds / size)} ${word}`;
}

const clock = (time) => new Date(time * 1000).toLocaleTimeString([], { hour12: false });
const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);
const dropsOf = (counters) => sum(Object.values(counters.drops));

// -- building -------------------------------------------------------------------------------------------------------

function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (typeof value === "boolean") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function table(id, heads, rows, nothing) {
  const head = h("thead", {}, h("tr", {}, ...heads.map(([text, kind]) => h("th", { scope: "col", class: kind ?? "" }, text))));
  const body = h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map((cell, place) => h("td", { class: heads[place][1] ?? "" }, cell)))));
  if (!rows.length) body.append(h("tr", {}, h("td", { colspan: String(heads.length), class: "quiet" }, nothing)));
  $(id).replaceChildren(head, body);
}

// -- what came ------------------------------------------------------------------------------------------------------

function rated(now) {
  const before = state.before;
  const seconds = before ? now.time - before.time : 0;
  const old = new Map((before?.ports ?? []).map((port) => [port.number, port.counters]));
  const rate = (key, port) => {
    const was = old.get(port.number);
    return was && seconds > 0 ? Math.max(0, (port.counters[key] - was[key]) * 8 / seconds) : 0;
  };
  const ports = now.ports.map((port) => {
    const flow = { in: rate("rx_bytes", port), out: rate("tx_bytes", port) };
    const history = [...(state.histories.get(port.number) ?? []), flow].slice(-HISTORY);
    state.histories.set(port.number, history);
    return { ...port, rate: flow, history, words: { in: bits(flow.in), out: bits(flow.out) } };
  });
  for (const number of state.histories.keys()) if (!now.ports.some((port) => port.number === number)) state.histories.delete(number);
  const lost = before && seconds > 0 ? Math.max(0, dropsOf(now.total) - dropsOf(before.total)) / seconds : 0;
  state.before = now;
  return { ports, lost };
}

function show(now) {
  const { ports, lost } = rated(now);
  state.ports = ports;
  $("rate-in").textContent = bits(sum(ports.map((port) => port.rate.in)));
  $("rate-out").textContent = bits(sum(ports.map((port) => port.rate.out)));
  $("rate-drops").textContent = `${Math.round(lost)}/s`;
  $("rate-drops").className = lost >= 1 ? "bad" : "";
  $("count-ports").textContent = String(ports.length);
  if (now.network) showNetwork(now.network);
  if (now.leases) showLeases(now.leases);
  if (now.fdb) showFdb(now.fdb);
  if (now.log) showLog(now.log);
  showDrops(ports);
  showRecording(now.recording);
  redraw();
}

function redraw() {
  const uplink = state.network ? [state.network.uplink.kind, state.network.uplink.mode].filter(Boolean).join(" · ") : "";
  picture.draw(state.ports, { chosen: state.chosen, uplink });
  showPort();
}

function showNetwork(network) {
  state.network = network;
  document.title = `${network.name} – vde_vmnet`;
  $("name").textContent = network.name;
  const { uplink } = network;
  $("what").textContent = [
    uplink.kind === "none" ? "isolated switch" : `${uplink.kind} uplink`, uplink.mode, uplink.gateway, uplink.device,
    `pid ${network.pid} as ${network.user}`, `version ${network.version}`,
  ].filter(Boolean).join(" · ");
  $("uptime").textContent = duration(network.uptime_seconds);
  $("capture-button").disabled = !network.may_change;
  $("capture-button").title = network.may_change ? "" : "Only root, the daemon's user and who started it may capture";
}

function showLeases(leases) {
  table("leases", [["Address"], ["MAC"], ["Name"], ["Port", "number"], ["Until"]],
    leases.map((one) => [one.address, one.mac ?? "–", one.name ?? "–", one.port === null ? "–" : String(one.port),
      one.reserved ? "reserved" : one.expires === null ? "never" : clock(one.expires)]), "no address was handed out");
}

function showFdb(entries) {
  table("fdb", [["Station"], ["Port", "number"], ["Seen", "number"], ["Address"]],
    entries.map((one) => [one.mac, String(one.port), `${Math.round(one.age_seconds)} s ago`, one.name ?? one.addresses[0] ?? "–"]),
    "no station was seen");
}

function showDrops(ports) {
  const rows = [];
  for (const port of ports) {
    for (const [reason, count] of Object.entries(port.counters.drops)) if (count) rows.push([port.name, reason, count]);
  }
  rows.sort((one, other) => other[2] - one[2]);
  table("drops", [["Port"], ["Reason"], ["Frames", "number"]],
    rows.map(([name, reason, count]) => [name, reason, count.toLocaleString()]), "no frame was dropped");
}

function showLog(lines) {
  const list = $("log");
  const last = lines.at(-1)?.seq ?? 0;
  if (list.dataset.last === String(last)) return;
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  list.dataset.last = String(last);
  list.replaceChildren(...lines.map((line) => h("li", { class: line.level }, h("time", {}, clock(line.time)), line.message)));
  if (atEnd) list.scrollTop = list.scrollHeight;
}

// -- one port -------------------------------------------------------------------------------------------------------

function choose(number) {
  state.chosen = state.chosen === number ? null : number;
  redraw();
}

function who(peer) {
  if (!peer) return "–";
  const user = peer.user ?? (peer.uid === null ? null : `uid ${peer.uid}`);
  return [peer.command, peer.pid === null ? null : `pid ${peer.pid}`, user].filter(Boolean).join(", ") || "–";
}

function showPort() {
  const port = state.ports.find((one) => one.number === state.chosen);
  $("only-port").disabled = !port;
  $("only-port-label").textContent = port ? `port ${port.number} only` : "one port only";
  $("port-title").textContent = port ? `Port ${port.number}` : "Port";
  if (!port) {
    $("only-port").checked = false;
    $("port-body").replaceChildren(h("p", { class: "quiet" }, "Choose a port in the picture."));
    $("port-actions").replaceChildren();
    $("port-actions").dataset.of = "";
    return;
  }
  const { counters } = port;
  const facts = [
    ["Name", port.name], ["Kind", port.up ? port.kind : `${port.kind}, taken down`],
    ["Stations", port.macs.join(" ") || "–"], ["Addresses", port.addresses.join(" ") || "–"],
    ["Plugged in by", port.endpoints.map((one) => who(one.peer)).join("; ") || "–"],
    ["In", `${port.words.in}; ${counters.rx_frames.toLocaleString()} frames, ${bytes(counters.rx_bytes)}`],
    ["Out", `${port.words.out}; ${counters.tx_frames.toLocaleString()} frames, ${bytes(counters.tx_bytes)}`],
    ["Waiting", `${counters.queued_frames} frames`],
    ["Dropped", Object.entries(counters.drops).map(([reason, count]) => `${reason} ${count.toLocaleString()}`).join(", ") || "none"],
  ];
  const plot = svg("svg", { viewBox: "0 0 300 60", role: "img", "aria-label": `In ${port.words.in}, out ${port.words.out}` },
    ...sparkline(port.history, 0, 2, 300, 56));
  $("port-body").replaceChildren(h("dl", {}, ...facts.flatMap(([term, fact]) => [h("dt", {}, term), h("dd", {}, fact)])), plot);
  showActions(port);
}

function showActions(port) {
  const mayNot = !state.network?.may_change;
  const place = $("port-actions");
  const of = `${port.number} ${port.up} ${mayNot}`;
  if (place.dataset.of === of) return;
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.action : null;
  place.dataset.of = of;
  const button = (action, label) =>
    h("button", { type: "button", "data-action": action, disabled: mayNot, onclick: () => act(port, action) }, label);
  const actions = [button(port.up ? "down" : "up", port.up ? "Take down" : "Bring up")];
  if (port.kind !== "uplink") actions.push(button("kick", "Unplug"));
  place.replaceChildren(...actions);
  // Whoever pressed "Take down" is on "Bring up" now.
  if (focused) (place.querySelector(`[data-action="${focused}"]`) ?? place.firstChild).focus();
}

const act = (port, action) => post(`/ports/${port.number}/${action}`);

// -- captures -------------------------------------------------------------------------------------------------------

function showRecording(recording) {
  state.recording = recording;
  const button = $("capture-button");
  const running = Boolean(recording?.running);
  button.textContent = running ? "Stop capture" : "Start capture";
  button.className = running ? "recording" : "";
  const line = $("capture-state");
  if (!recording) {
    line.replaceChildren();
  } else if (running) {
    line.textContent = `${recording.frames.toLocaleString()} frames, ${bytes(recording.bytes)}, ${duration(recording.seconds)}`;
  } else if (!line.querySelector("a") || line.dataset.file !== recording.file) {
    line.dataset.file = recording.file;
    line.replaceChildren(h("a", { href: "/capture/file", download: recording.file }, `Save ${recording.file}`),
      ` ${recording.frames.toLocaleString()} frames${recording.dropped ? `, ${recording.dropped.toLocaleString()} lost` : ""}`,
      recording.trouble ? `. ${recording.trouble}` : "");
  }
}

$("capture").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.recording?.running) {
    post("/capture/stop");
    return;
  }
  const wanted = {};
  const filter = $("filter").value.trim();
  if (filter) wanted.filter = filter;
  if ($("only-port").checked && state.chosen !== null) wanted.ports = [state.chosen];
  post("/capture/start", wanted);
});

// -- asking ---------------------------------------------------------------------------------------------------------

function trouble(text) {
  const place = $("trouble");
  if (place.textContent !== text) place.textContent = text;
  place.hidden = !text;
}

async function answer(response) {
  const text = await response.text();
  if (response.ok) return JSON.parse(text);
  let said;
  try { said = JSON.parse(text); } catch { throw new Error(text.trim()); }
  throw new Error([said.message, said.next_step].filter(Boolean).join(". "));
}

async function post(path, body) {
  try {
    await answer(await fetch(path, { method: "POST", body: body === undefined ? undefined : JSON.stringify(body) }));
    state.rounds = 0;
    await ask();
  } catch (error) {
    trouble(error.message);
    state.keep = performance.now() + 8000;
  }
}

async function ask() {
  const everything = state.rounds % EVERYTHING_EVERY === 0;
  state.rounds += 1;
  try {
    const response = await fetch(`/data${everything ? "?everything=1" : ""}`).catch(() => {
      throw new Error("The dashboard has ended: start it again in its terminal");
    });
    show(await answer(response));
    if (performance.now() > (state.keep ?? 0)) trouble("");
  } catch (error) {
    trouble(error.message);
    state.rounds = 0;
  }
}

async function live() {
  if (!document.hidden) await ask();
  setTimeout(live, EVERY);
}

history.replaceState(null, "", "/"); // the token in the address was good once
addEventListener("resize", redraw);
live();
