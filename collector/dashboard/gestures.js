// Zoom and pan with mouse, wheel, fingers and keys. Dragging with the mouse selects, which the chart library does.

/** Arrows pan, plus and minus zoom, Home goes back to now. */
export function keys(event, span) {
  const step = { ArrowLeft: () => span.pan(-0.25), ArrowRight: () => span.pan(0.25), "+": () => span.zoom(0.5), "=": () => span.zoom(0.5), "-": () => span.zoom(2), "−": () => span.zoom(2), Home: () => span.follow() }[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  step();
}

/** Shift and drag, or a finger, pans; two fingers, or Ctrl and the wheel, zoom; a double click zooms out. */
export function gestures(over, span) {
  const pointers = new Map();
  const timeAt = (x) => span.from + ((x - over.getBoundingClientRect().left) / over.clientWidth) * span.length;
  over.addEventListener("dblclick", (event) => span.zoom(3, timeAt(event.clientX)));
  over.addEventListener("wheel", (event) => {
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.ctrlKey || event.metaKey) span.zoom(Math.exp(event.deltaY / 300), timeAt(event.clientX));
    else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) span.pan(sideways / over.clientWidth);
    else return;
    event.preventDefault();
  }, { passive: false });
  // Before the library sees it: with Shift, or a finger, it is panning.
  over.addEventListener("mousedown", (event) => { if (event.shiftKey || event.button === 1) event.stopImmediatePropagation(); }, true);
  over.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && !event.shiftKey && event.button !== 1) return;
    event.preventDefault();
    over.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event.clientX);
  });
  over.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = [...pointers.values()];
    pointers.set(event.pointerId, event.clientX);
    const after = [...pointers.values()];
    if (after.length === 1) span.pan((before[0] - after[0]) / over.clientWidth);
    else span.zoom(Math.min(4, Math.max(0.25, Math.max(8, Math.abs(before[0] - before[1])) / Math.max(8, Math.abs(after[0] - after[1])))), timeAt((after[0] + after[1]) / 2));
  });
  for (const end of ["pointerup", "pointercancel"]) over.addEventListener(end, (event) => pointers.delete(event.pointerId));
}
