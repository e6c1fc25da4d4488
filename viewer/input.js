"use strict";
// Keys, mouse and buttons of a Page; then the page itself.

const KEYS = {
  ArrowLeft: (page) => page.pan(-80), ArrowRight: (page) => page.pan(80),
  ArrowUp: (page) => page.pan(0, -60), ArrowDown: (page) => page.pan(0, 60),
  PageUp: (page) => page.pan(0, -0.9 * page.layout.height), PageDown: (page) => page.pan(0, 0.9 * page.layout.height),
  Home: (page) => page.pan(-Infinity), End: (page) => page.pan(1e300),
  "+": (page) => page.zoom(1 / 1.5), "=": (page) => page.zoom(1 / 1.5), "-": (page) => page.zoom(1.5), "_": (page) => page.zoom(1.5),
  "0": (page) => page.fit(), "[": (page) => page.changeLanes(1 / 1.25), "]": (page) => page.changeLanes(1.25),
  "/": () => { element("search").focus(); element("search").select(); },
  n: (page) => page.step(1), p: (page) => page.step(-1), d: (page) => page.stepDifference(1), D: (page) => page.stepDifference(-1),
  m: (page) => page.toggle("marks"), v: (page) => page.toggle("arrange"), s: (page) => page.toggle("scale"),
  t: (page) => page.toggle("theme"), "?": () => toggleKeys(), Escape: (page) => page.clear(),
};

function toggleKeys() {
  const dialog = element("keys");
  if (dialog.open) dialog.close(); else dialog.showModal();
}

function listen(page) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === element("search")) return typeInSearch(page, event);
    if (element("keys").open && event.key !== "?") return;
    if (event.target instanceof HTMLButtonElement && (event.key === " " || event.key === "Enter")) return;
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act(page);
  });
  const buttons = {in: () => page.zoom(1 / 1.5), out: () => page.zoom(1.5), fit: () => page.fit(), help: toggleKeys};
  for (const [id, act] of Object.entries(buttons)) element(id).addEventListener("click", act);
  for (const id of ["arrange", "scale", "marks", "theme"]) element(id).addEventListener("click", () => page.toggle(id));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (query) => page.setTheme(query.matches ? "dark" : "light"));
  new ResizeObserver(() => page.resize()).observe(page.canvas.parentElement);
  listenToMouse(page);
}

function typeInSearch(page, event) {
  if (event.key === "Enter") page.search(element("search").value.trim());
  if (event.key !== "Escape") return;
  page.canvas.focus();
  event.preventDefault();
}

function listenToMouse(page) {
  const {canvas} = page;
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    drag = {x: event.clientX, y: event.clientY, moved: false};
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) return hover(page, event);
    const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    drag = {x: event.clientX, y: event.clientY, moved: true};
    canvas.classList.add("dragged");
    element("tip").hidden = true;
    page.pan(-dx, -dy);
  });
  const drop = (event) => {
    if (drag && !drag.moved && event.type === "pointerup") click(page, event);
    drag = null;
    canvas.classList.remove("dragged");
  };
  canvas.addEventListener("pointerup", drop);
  canvas.addEventListener("pointercancel", drop);
  canvas.addEventListener("pointerleave", () => unhover(page));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const {x, y} = placeOn(canvas, event);
    const line = event.deltaMode === 1 ? 16 : 1;
    const panel = page.layout.panels.findLast((one) => x >= one.gutter) ?? page.layout.panels[0];
    if (event.shiftKey) page.pan(0, (event.deltaY || event.deltaX) * line);
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) page.pan(event.deltaX * line);
    else if (x < panel.x && y > page.layout.axis) page.pan(0, event.deltaY * line);
    else page.zoom(Math.exp(event.deltaY * line * 0.0018), x - panel.x);
    hover(page, event);
  }, {passive: false});
}

function placeOn(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return {x: event.clientX - box.left, y: event.clientY - box.top};
}

function click(page, event) {
  const {x, y} = placeOn(page.canvas, event);
  const found = page.hit(x, y);
  if (found && found.event >= 0) page.select(found.file, found.event); else page.clear();
}

function unhover(page) {
  element("tip").hidden = true;
  if (page.state.hovered) {
    page.state.hovered = null;
    page.draw();
  }
}

function hover(page, event) {
  const {x, y} = placeOn(page.canvas, event);
  const named = y >= page.layout.axis && page.layout.bandAt(x, y - page.layout.axis + page.state.scroll);
  if (named && x < named.panel.x) return hoverRank(page, named, x, y);
  const found = page.hit(x, y);
  if (!found || (found.event < 0 && !found.memory)) return unhover(page);
  const model = page.models[found.file];
  const before = page.state.hovered;
  const now = found.event >= 0 ? {file: found.file, event: found.event} : null;
  if (before?.file !== now?.file || before?.event !== now?.event) {
    page.state.hovered = now;
    page.draw();
  }
  const several = page.several ? "AB"[found.file] + "  " : "";
  const lines = now ? describeEvent(model, now.event)
                    : [`${model.aliveAt(found.band.rank, found.time)} activations alive`,
                       `rank ${found.band.rank} at ${exactTime(model, Math.max(0, Math.round(found.time)))}; at most ${model.memory[found.band.rank].peak}`];
  if (now && page.comparison && page.state.marks) lines.push(...describeDifference(page.comparison, found.file, now.event));
  showTip(several + lines[0], lines.slice(1), x, y);
}

function hoverRank(page, band, x, y) {
  unhover(page);
  const [head, ...lines] = describeRank(page.models[band.file], band.rank);
  showTip((page.several ? "AB"[band.file] + "  " : "") + head, lines, x, y);
}

// Beside the pointer, inside the page.
function showTip(head, lines, x, y) {
  const tip = element("tip");
  tip.replaceChildren(bold(head), ...lines.map((line) => {
    const row = document.createElement("div");
    row.textContent = line;
    return row;
  }));
  tip.hidden = false;
  const room = tip.parentElement.getBoundingClientRect();
  const width = tip.offsetWidth, height = tip.offsetHeight;
  tip.style.left = Math.max(4, x + 16 + width > room.width ? x - 14 - width : x + 16) + "px";
  tip.style.top = Math.max(4, y + 16 + height > room.height ? y - 12 - height : y + 16) + "px";
}

// For tests, and for whoever opens the console.
function publish(page) {
  window.plaitView = {
    page,
    state: () => ({...page.state, theme: page.theme, visible: page.layout.plot * page.state.pixel, length: page.length,
                   laneHeight: page.layout.bands[0].compute.height, frames: page.frames, drawn: page.painter.drawn,
                   total: page.layout.total, selected: page.state.selected && {...page.state.selected,
                     label: page.models[page.state.selected.file].label(page.state.selected.event)}}),
    counts: () => page.models.map((model) => model.count),
    differences: () => page.comparison && page.comparison.counts,
    // Where an action lies, in the window; its first part.
    placeOf: (label, file = 0) => {
      const model = page.models[file];
      const wanted = parseSearch(label);
      const [event] = searchEvents(model, wanted);
      const panel = page.layout.panels.find((one) => one.files.includes(file));
      const place = page.painter.placeOf(panel, file, event);
      const box = page.canvas.getBoundingClientRect();
      return {x: box.left + place.x + place.width / 2, y: box.top + place.y + place.height / 2, width: place.width, rank: model.rank[event]};
    },
  };
}

publish(new Page(JSON.parse(element("data").textContent)));
