// Runs before anything is painted, so that no page flashes in the wrong colours. Without a choice the system's holds.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; then there is no choice to remember.
}
