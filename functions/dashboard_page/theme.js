// The colours that were chosen here before, set before anything is painted. A classic script: modules run too late for that.
try {
  const chosen = localStorage.getItem("tollgate.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // storage is closed to this page: the system's colours will do
}
