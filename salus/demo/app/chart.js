// A line chart as SVG that says in words what it shows, and a table of the same values.
// https://www.w3.org/WAI/tutorials/images/complex/

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 360, HEIGHT = 150;
const LEFT = 50, RIGHT = 12, TOP = 12, BOTTOM = 28; // margins, for the labels

/**
 * `lines`: [{name, points: [{time: Date, value: number}]}], each by time. A reader of the screen
 * hears `title` and the latest values; everybody can open the table.
 */
export function chart({ title, unit, lines }) {
  const points = lines.flatMap((line) => line.points);
  const [first, last] = extent(points.map((point) => +point.time));
  const [low, high] = padded(extent(points.map((point) => point.value)));
  const x = scale(first, last, LEFT, WIDTH - RIGHT);
  const y = scale(low, high, HEIGHT - BOTTOM, TOP);

  const drawn = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  drawn.append(svg("title", {}, `${title}: ${latest(lines, unit)}`));
  for (const value of ticks(low, high)) {
    drawn.append(
      svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value), class: "grid" }),
      svg("text", { x: LEFT - 6, y: y(value) + 5, "text-anchor": "end" }, `${value}`),
    );
  }
  drawn.append(
    svg("text", { x: LEFT, y: HEIGHT - 6 }, month(first)),
    svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, month(last)),
  );
  lines.forEach((line, number) => drawn.append(...path(line.points, x, y, number)));
  return figure(title, unit, lines, drawn);
}

function figure(title, unit, lines, drawn) {
  const made = element("figure", { class: "vital" });
  const caption = element("figcaption", {});
  caption.append(element("h3", {}, title), element("p", { class: "latest" }, latest(lines, unit)));
  const details = element("details", {});
  details.append(element("summary", {}, "Values"), table(title, unit, lines));
  made.append(caption, drawn, details);
  return made;
}

/** A path through the points, and a dot on each: two lines differ in more than their colour. */
function* path(points, x, y, number) {
  const d = points.map(({ time, value }, i) => `${i ? "L" : "M"}${x(+time)} ${y(value)}`).join("");
  yield svg("path", { d, class: `line line-${number}` });
  for (const { time, value } of points) {
    yield svg("circle", { cx: x(+time), cy: y(value), r: 2.6, class: `dot line-${number}` });
  }
}

/** The newest value of each line, as people say it: "128/82 mmHg". */
function latest(lines, unit) {
  return `${lines.map((line) => line.points.at(-1).value).join("/")} ${unit}`;
}

function table(title, unit, lines) {
  const made = element("table", {});
  made.append(element("caption", {}, `${title}, ${unit}`));
  const head = made.createTHead().insertRow();
  for (const name of ["Date", ...lines.map((line) => line.name)]) {
    head.append(element("th", { scope: "col" }, name));
  }
  const body = made.createTBody();
  for (const { time } of [...lines[0].points].reverse()) {
    const row = body.insertRow();
    row.append(element("th", { scope: "row" }, day(time)));
    for (const line of lines) {
      const point = line.points.find((each) => +each.time === +time);
      row.insertCell().textContent = point?.value ?? "";
    }
  }
  return made;
}

const extent = (values) => [Math.min(...values), Math.max(...values)];

function padded([low, high]) {
  const room = (high - low || Math.abs(high) || 1) * 0.15;
  return [low - room, high + room];
}

/** A function from one range to another. */
function scale(from, to, low, high) {
  const width = to - from || 1;
  return (value) => Math.round((low + ((value - from) / width) * (high - low)) * 10) / 10;
}

/** Three or four round numbers of a range. */
function ticks(low, high) {
  const rough = (high - low) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
    found.push(Number(value.toPrecision(6)));
  }
  return found;
}

/** A day as the reader's own language has it; of a date in FHIR, as exact as it is given. */
export function day(time) {
  if (!time) return "";
  const [year, month, date] = /^\d{4}(-\d\d)?(-\d\d)?$/.test(time) ? time.split("-") : [];
  const shown = year ? new Date(year, (month ?? 1) - 1, date ?? 1) : new Date(time); // no zone
  return shown.toLocaleDateString(undefined, {
    year: "numeric",
    ...(!year || month ? { month: "short" } : {}),
    ...(!year || date ? { day: "numeric" } : {}),
  });
}

const month = (time) =>
  new Date(time).toLocaleDateString(undefined, { month: "short", year: "numeric" });

function made(node, attributes, text) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text; // never innerHTML: data is not markup
  return node;
}

const svg = (name, attributes, text) => made(document.createElementNS(SVG, name), attributes, text);

export const element = (name, attributes, text) =>
  made(document.createElement(name), attributes, text);
