// Showing text that a model wrote. It goes into the page as text nodes only, never as markup.

// A browser lays out one paragraph of a megabyte in a minute, a hundred blocks of a hundredth at once.
const BLOCK = 10000; // characters, up to twice as many

/**
 * Replaces an element's content by text.
 *
 * @param {HTMLElement} element where to show it.
 * @param {[string, boolean][]} pieces from the server: a run of text, and whether it spells out a
 *   character that would otherwise be invisible or obeyed (a control, a change of direction).
 */
export function show(element, pieces) {
  const blocks = inBlocks(pieces).map((block) => block.map(nodeOf));
  if (blocks.length === 1) element.replaceChildren(...blocks[0]);
  else element.replaceChildren(...blocks.map(blockOf));
  element.scrollTop = 0;
  hint(element);
}

/** Marks an element whose text goes on below what can be seen. */
export function hint(element) {
  const below = element.scrollHeight - element.clientHeight - element.scrollTop;
  element.classList.toggle("more", below > 4);
}

/** Pieces in lists of about `BLOCK` characters, cut at the end of a line or of a word if it can be. */
function inBlocks(pieces) {
  if (!pieces.length) return [[["nothing was written", true]]];
  const blocks = [[]];
  let room = BLOCK;
  for (let [text, spelled] of pieces) {
    while (text.length > room) {
      const end = cut(text, room, spelled);
      blocks.at(-1).push([text.slice(0, end), spelled]);
      text = text.slice(end);
      blocks.push([]);
      room = BLOCK;
    }
    if (text) blocks.at(-1).push([text, spelled]);
    room -= text.length;
  }
  return blocks.filter((block) => block.length);
}

function cut(text, room, spelled) {
  const near = text.slice(room, room + BLOCK);
  if (spelled) return room + Math.max(near.indexOf("\\"), 0);
  for (const mark of ["\n", " "]) {
    const place = near.indexOf(mark);
    if (place >= 0) return room + place + 1;
  }
  const splitsPair = /^[\uDC00-\uDFFF]/.test(near);
  return splitsPair ? room + 1 : room;
}

function blockOf(nodes) {
  const block = document.createElement("div");
  block.className = "block";
  block.append(...nodes);
  return block;
}

/** Nodes for pieces of text, without blocks: for what is short. */
export function nodesOf(pieces) {
  return pieces.map(nodeOf);
}

function nodeOf([text, spelled]) {
  return spelled ? spelledOut(text) : document.createTextNode(text);
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
