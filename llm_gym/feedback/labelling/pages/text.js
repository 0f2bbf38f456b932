// Showing text that a model wrote. It goes into the page as text nodes only, never as markup.

/**
 * Replaces an element's content by text.
 *
 * @param {HTMLElement} element where to show it.
 * @param {[string, boolean][]} pieces from the server: a run of text, and whether it spells out a
 *   character that would otherwise be invisible or obeyed (a control, a change of direction).
 */
export function show(element, pieces) {
  const nodes = pieces.map(([text, spelled]) => (spelled ? spelledOut(text) : document.createTextNode(text)));
  element.replaceChildren(...(nodes.length ? nodes : [spelledOut("nothing was written")]));
  element.scrollTop = 0;
  hint(element);
}

/** Marks an element whose text goes on below what can be seen. */
export function hint(element) {
  const below = element.scrollHeight - element.clientHeight - element.scrollTop;
  element.classList.toggle("more", below > 4);
}

function spelledOut(text) {
  const mark = document.createElement("span");
  mark.className = "spelled";
  mark.textContent = text;
  return mark;
}

/** Shows lines of plain text as the items of a list. */
export function showList(list, lines) {
  list.replaceChildren(
    ...lines.map((line) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }),
  );
}
