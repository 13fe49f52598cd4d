"use strict";

// Numbers and texts of one column: its cells' data-value, or else what they say.
function keyOf(row, column) {
  const cell = row.cells[column];
  if ("value" in cell.dataset) return Number(cell.dataset.value);
  return cell.textContent.replace(/^\u26A0\uFE0E?/, "").trim();
}

const { compare } = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const descending = heads[column].getAttribute("aria-sort") === "ascending";
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");

  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [keyOf(row, column), row]);
  keyed.sort(([a], [b]) => {
    // A cell without a value among numbers is a gap: last either way.
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    const order = typeof a === "number" ? (a > b) - (a < b) : compare(a, b);
    return descending ? -order : order;
  });
  body.append(...keyed.map(([, row]) => row));
}

// Made here, so that without a script there are no buttons that do nothing.
for (const table of document.querySelectorAll("table")) {
  if (table.tBodies[0].rows.length < 2) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, column));
    head.append(button);
  });
}
