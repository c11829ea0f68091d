"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, i) => {
    const cell = row.cells[i];
    return cell.dataset.v === undefined ? cell.textContent.trim() : Number(cell.dataset.v);
  };
  const order = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b
      : String(a).localeCompare(String(b), undefined, { numeric: true });
  heads.forEach((head, i) => {
    head.classList.add("sorts");
    head.tabIndex = 0;
    head.title = "Sort by this column";
    const sort = () => {
      const rises = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", rises ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      const empty = (row) => row.cells[i].dataset.v === "" || row.cells[i].textContent.trim() === "–";
      rows.sort((a, b) =>
        empty(a) - empty(b) || (rises ? 1 : -1) * order(value(a, i), value(b, i)));
      table.tBodies[0].append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
    });
  });
}
