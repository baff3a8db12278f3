// Draw the formulas of a page; the theme may bring a page in without loading it anew.
function drawFormulas() {
  for (const place of document.querySelectorAll(".arithmatex:not([data-drawn])")) {
    const text = place.textContent.trim();
    const display = text.startsWith("\\[");
    katex.render(text.slice(2, -2), place, { displayMode: display, throwOnError: false });
    place.dataset.drawn = "";
  }
}

if (typeof document$ === "undefined") document.addEventListener("DOMContentLoaded", drawFormulas);
else document$.subscribe(drawFormulas);
