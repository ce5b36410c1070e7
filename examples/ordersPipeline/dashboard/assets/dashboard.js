// The dashboard's page: one stream of snapshots, drawn as they come. Every value is written as text, never as markup.
"use strict";

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const money = (minor) => number.format(Math.floor(minor / 100)) + "." + String(minor % 100).padStart(2, "0") + " €";
const SVG = "http://www.w3.org/2000/svg";
const W = 600, H = 220, LEFT = 62, RIGHT = 8, TOP = 8, BOTTOM = 22;

function node(kind, attributes, text) {
  const e = document.createElementNS(SVG, kind);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
}

// ceiling rounds up to 1, 2 or 5 times a power of ten, so that the axis does not jump with every record.
function ceiling(v) {
  if (v <= 0) return 1;
  const p = Math.pow(10, Math.floor(Math.log10(v)));
  for (const f of [1, 2, 5, 10]) if (v <= f * p) return f * p;
  return 10 * p;
}

// axes draws the grid and returns the scale of y.
function axes(parts, times, top, label) {
  const y = (v) => H - BOTTOM - (v / top) * (H - TOP - BOTTOM);
  for (let i = 0; i <= 4; i++) {
    const v = top * i / 4;
    parts.push(node("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(v), y2: y(v) }));
    parts.push(node("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, label(v)));
  }
  const step = (W - LEFT - RIGHT) / times.length;
  times.forEach((t, i) => {
    if (t % 60000 === 0 && LEFT + i * step < W - 36)
      parts.push(node("text", { x: LEFT + i * step, y: H - 6 }, new Date(t).toTimeString().slice(0, 5)));
  });
  return y;
}

function drawOrders(s) {
  const parts = [], top = ceiling(Math.max(1, ...s.orders, ...s.rejects));
  const y = axes(parts, s.times, top, (v) => number.format(v));
  const step = (W - LEFT - RIGHT) / s.times.length;
  // The newest bucket is still growing and would draw a fall that is none.
  const line = (values) => values.slice(0, -1).map((v, i) => `${i ? "L" : "M"}${(LEFT + (i + .5) * step).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  parts.push(node("path", { class: "orders", d: line(s.orders) }), node("path", { class: "rejects", d: line(s.rejects) }));
  $("orders-chart").replaceChildren(...parts);
}

function drawRevenue(s) {
  const countries = Object.keys(s.revenue).sort();
  const sums = s.times.map((_, i) => countries.reduce((n, c) => n + s.revenue[c][i], 0));
  const parts = [], top = ceiling(Math.max(100, ...sums));
  const y = axes(parts, s.times, top, (v) => number.format(Math.round(v / 100)) + " €");
  const step = (W - LEFT - RIGHT) / s.times.length;
  s.times.forEach((t, i) => {
    let below = 0;
    countries.forEach((c, n) => {
      const v = s.revenue[c][i];
      if (!v) return;
      const bar = node("rect", { class: "s" + Math.min(n, 6), x: (LEFT + i * step + 1).toFixed(1), width: (step - 2).toFixed(1),
        y: y(below + v).toFixed(1), height: (y(below) - y(below + v)).toFixed(1), opacity: i === s.times.length - 1 ? .5 : 1 });
      bar.append(node("title", {}, `${c} ${new Date(t).toTimeString().slice(0, 8)}: ${money(v)}`));
      parts.push(bar);
      below += v;
    });
  });
  $("revenue-chart").replaceChildren(...parts);
  if ($("countries").dataset.of !== countries.join()) {
    $("countries").dataset.of = countries.join();
    $("countries").replaceChildren(...countries.flatMap((c, n) => {
      const i = document.createElement("i");
      i.className = "s" + Math.min(n, 6);
      return [i, c + " "];
    }));
  }
}

// rows fills a table body. A cell is a text, or [text, class].
function rows(id, list) {
  $(id).replaceChildren(...list.map((cells) => {
    const tr = document.createElement("tr");
    for (const cell of cells) {
      const td = document.createElement("td");
      const [text, kind, link] = Array.isArray(cell) ? cell : [cell];
      if (kind) td.className = kind;
      if (link) {
        const a = document.createElement("a");
        a.href = link;
        a.textContent = text;
        td.append(a);
      } else td.textContent = text;
      tr.append(td);
    }
    return tr;
  }));
}

function show(s) {
  $("orders").textContent = number.format(s.sums.orders_per_minute);
  $("revenue").textContent = number.format(Math.floor(s.sums.revenue / 100)) + " €";
  $("reserved").textContent = number.format(s.sums.reserved) + " orders reserved";
  $("rejects").textContent = number.format(s.sums.rejects);
  $("mails").textContent = s.sums.mails < 0 ? "not here" : number.format(s.sums.mails);
  const card = $("invariant"), known = s.stock.length > 0;
  card.classList.toggle("good", known && s.balanced);
  card.classList.toggle("bad", known && !s.balanced);
  $("balance").textContent = !known ? "–" : s.balanced ? "holds" : "BROKEN";
  $("stocksums").textContent = known ? `${number.format(s.sums.delivered)} = ${number.format(s.sums.on_hand)} on hand + ${number.format(s.sums.held)} reserved` : "";
  drawOrders(s);
  drawRevenue(s);
  rows("lag", s.lag ? s.lag.map((l) => [l.service, l.group, [l.records < 0 ? "–" : number.format(l.records), "n"]]) : []);
  rows("totals", s.totals.map((t) => [t.country, [number.format(t.orders), "n"], [money(t.revenue), "n"]]));
  rows("stock", s.stock.map((p) => [p.sku, [number.format(p.delivered), "n"], [number.format(p.on_hand), "n"], [number.format(p.reserved), "n"],
    p.balanced ? ["holds", "yes"] : ["BROKEN", "no"]]));
  rows("latest", s.latest.map((d) => [["…" + d.order_id.slice(-8), "", "/orders/" + encodeURIComponent(d.order_id)], `${d.quantity} × ${d.product}`,
    [money(d.total), "n"], [d.status + (d.reason ? ": " + d.reason : ""), d.status]]));
}

// One stream per visible tab: browsers allow few connections to one place.
let stream = null;
function connect() {
  if (stream || document.hidden) return;
  stream = new EventSource("/api/events");
  stream.onopen = () => { $("live").textContent = "live"; };
  stream.onerror = () => { $("live").textContent = "not connected: trying again"; };
  stream.onmessage = (e) => { if (e.data) show(JSON.parse(e.data)); };
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden && stream) { stream.close(); stream = null; } else connect();
});
connect();
