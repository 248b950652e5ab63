"use strict";
// tables sort by a column: up, down, and as they were; cells without a number come last
const number = (cell) => parseFloat(cell.firstChild?.textContent.replace(/,/g, "").replace("−", "-"));
const compare = (a, b) => {
  const [x, y] = [number(a), number(b)];
  if (isNaN(x) && isNaN(y)) return a.textContent.localeCompare(b.textContent);
  return isNaN(x) ? Infinity : isNaN(y) ? -Infinity : x - y;
};
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], asItWas = [...body.rows], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "" }[head.ariaSort] ?? "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      if (next) head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const order = (a, b) => {
        const difference = compare(a.cells[column], b.cells[column]);
        return Number.isFinite(difference) ? sign * difference : difference;
      };
      body.append(...(next ? [...asItWas].sort(order) : asItWas));
    });
  });
}
// interpolations: the frames lie below one another in one picture, of which the window shows one
for (const slider of document.querySelectorAll(".slider")) {
  const input = slider.querySelector("input"), output = slider.querySelector("output");
  const show = () => {
    slider.style.setProperty("--at", `${(100 * input.value) / input.max}%`);
    output.textContent = `${Math.round((100 * input.value) / input.max)} % of the way`;
  };
  input.addEventListener("input", show);
  slider.classList.add("moves");
  show();
}
// paper shows everything
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
