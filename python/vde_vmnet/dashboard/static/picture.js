// The segment as a picture: the uplink above, the switch as a bar, the ports below it on wires. Draws what it is given.

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 172, HEIGHT = 96, GAP_X = 30, GAP_Y = 18, TOP = 112, BAR = 26;
const UPLINK = 65535; // its place on the switch

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const text = (x, y, string, attributes = {}) => svg("text", { x, y, ...attributes }, document.createTextNode(string));
const cut = (string, most) => (string.length > most ? `${string.slice(0, most - 1)}…` : string);

// A wire gets thicker with the logarithm of what flows: 1 kbit/s to 10 Gbit/s are 1 to 6 pixels.
const thickness = (bits) => 1.25 + Math.max(0, Math.min(5, (Math.log10(bits + 1) - 3) * 0.7));

export function sparkline(history, x, y, width, height) {
  const top = Math.max(1, ...history.flatMap((one) => [one.in, one.out]));
  return ["in", "out"].map((key) => {
    const points = history.map((one, place) => {
      const left = x + width - (history.length - 1 - place) * (width / 59);
      return `${left.toFixed(1)},${(y + height - (one[key] / top) * height).toFixed(1)}`;
    });
    return svg("polyline", { points: points.join(" "), class: `spark ${key}`, "aria-hidden": "true" });
  });
}

// What is drawn stays while it is looked at: a click begins and ends on the same element, whatever changes meanwhile.

class Wire {
  constructor(path) {
    this.line = svg("path", { d: path });
    this.flow = svg("path", { d: path, class: "flow" });
  }

  update(bits) {
    const busy = bits > 1000;
    this.line.setAttribute("class", busy ? "wire busy" : "wire");
    this.line.setAttribute("stroke-width", thickness(bits));
    this.flow.setAttribute("visibility", busy ? "visible" : "hidden");
    this.flow.setAttribute("stroke-width", Math.max(1.2, thickness(bits) * 0.45));
  }
}

class Box {
  constructor(number, choose) {
    this.name = text(10, 19, "", { "font-weight": "600" });
    this.station = text(10, 35, "", { class: "small" });
    this.state = text(WIDTH - 10, HEIGHT - 8, "", { class: "small state", "text-anchor": "end" });
    this.in = text(10, 52, "", { class: "rate-in" });
    this.out = text(WIDTH / 2, 52, "", { class: "rate-out" });
    this.sparks = svg("g");
    this.group = svg("g", { role: "button", tabindex: "0", "data-port": number },
      svg("rect", { class: "box", width: WIDTH, height: HEIGHT, rx: 7 }), this.name, this.station, this.state, this.in, this.out,
      text(10, HEIGHT - 8, `port ${number}`, { class: "small" }), this.sparks);
    this.group.addEventListener("click", () => choose(number));
    this.group.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        choose(number);
      }
    });
  }

  update(port, name, chosen) {
    const { words } = port;
    this.group.setAttribute("class", `port${chosen ? " chosen" : ""}${port.up ? "" : " down"}`);
    this.group.setAttribute("aria-pressed", String(chosen));
    this.group.setAttribute("aria-label",
      `Port ${port.number}, ${name}, ${port.kind}${port.up ? "" : ", down"}, in ${words.in}, out ${words.out}`);
    this.name.textContent = cut(name, 24);
    this.station.textContent = cut(port.addresses[0] ?? port.macs[0] ?? "no station yet", 26);
    this.state.textContent = port.up ? cut(port.kind, 12) : "down";
    this.in.textContent = `▼ ${words.in}`;
    this.out.textContent = `▲ ${words.out}`;
    this.sparks.replaceChildren(...sparkline(port.history, 10, 58, WIDTH - 20, 18));
  }
}

export class Picture {
  constructor(place, choose) {
    this.place = place;
    this.choose = choose;
    this.boxes = new Map();
    this.wires = new Map();
    this.layout = "";
  }

  /** `ports` have rate (bits per second: in, out), words and history; one of them may be the uplink. */
  draw(ports, { chosen, uplink }) {
    const width = Math.max(this.place.clientWidth, WIDTH + GAP_X);
    const layout = [width, ...ports.map((port) => port.number)].join(" ");
    if (layout !== this.layout || !this.place.firstChild) {
      this.layout = layout;
      this.arrange(ports, width);
    }
    for (const port of ports) {
      this.boxes.get(port.number).update(port, port.number === UPLINK && uplink ? uplink : port.name, chosen === port.number);
      this.wires.get(port.number).update(port.rate.in + port.rate.out);
    }
  }

  box(port, x, y) {
    if (!this.boxes.has(port.number)) this.boxes.set(port.number, new Box(port.number, this.choose));
    const { group } = this.boxes.get(port.number);
    group.setAttribute("transform", `translate(${x} ${y})`);
    return group;
  }

  wire(port, path) {
    const wire = new Wire(path);
    this.wires.set(port.number, wire);
    return [wire.line, wire.flow];
  }

  arrange(ports, width) {
    const focused = document.activeElement?.closest?.("[data-port]")?.dataset.port;
    for (const number of this.boxes.keys()) if (!ports.some((port) => port.number === number)) this.boxes.delete(number);
    this.wires.clear();
    const guests = ports.filter((port) => port.kind !== "uplink");
    // An uplink may bring a service along, which is plugged in beside it.
    const above = ports.filter((port) => port.kind === "uplink").reverse();
    const columns = Math.max(1, Math.min(Math.max(guests.length, above.length, 1), Math.floor((width - 12) / (WIDTH + GAP_X))));
    const rows = Math.ceil(guests.length / columns);
    const height = TOP + BAR + 16 + Math.max(1, rows) * (HEIGHT + GAP_Y);
    const used = columns * (WIDTH + GAP_X);
    const left = Math.max(6, (width - used) / 2);
    const middle = width / 2;
    const wires = svg("g", { "aria-hidden": "true" });
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "The ports of the switch" }, wires);
    above.forEach((port, index) => {
      const x = middle + (index - (above.length - 1) / 2) * (WIDTH + GAP_X);
      wires.append(...this.wire(port, `M${x} ${HEIGHT} V${TOP}`));
      picture.append(this.box(port, x - WIDTH / 2, 2));
    });
    if (!above.length) {
      picture.append(text(middle, TOP - 34, "no uplink: an isolated switch", { class: "small", "text-anchor": "middle" }));
    }
    picture.append(
      svg("rect", { class: "bar", x: left, y: TOP, width: Math.max(used - GAP_X / 2, WIDTH), height: BAR, rx: 5 }),
      text(left + 12, TOP + 17, "switch", { class: "bar-text" }),
    );
    guests.forEach((port, index) => {
      const x = left + (index % columns) * (WIDTH + GAP_X) + 14;
      const y = TOP + BAR + 22 + Math.floor(index / columns) * (HEIGHT + GAP_Y);
      wires.append(...this.wire(port, `M${x - 9} ${TOP + BAR} V${y + HEIGHT / 2} H${x}`));
      picture.append(this.box(port, x, y));
    });
    if (!guests.length) {
      picture.append(text(middle, TOP + BAR + 48, "nobody is plugged in", { class: "small", "text-anchor": "middle" }));
    }
    this.place.replaceChildren(picture);
    if (focused !== undefined) this.place.querySelector(`[data-port="${focused}"]`)?.focus({ preventScroll: true });
  }
}
