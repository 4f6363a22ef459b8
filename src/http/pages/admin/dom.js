// Elements from code. Whatever comes from the network becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Finds the element with an id. */
export const byId = (id) => document.getElementById(id);

/**
 * Makes an element. `attributes` go through setAttribute, except functions, which become event
 * listeners, and null, undefined and false, which are left out. Children are elements or text.
 */
export function el(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** Makes an SVG element, as `el` does. */
export function svg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Sets an element's text if it differs: an unchanged page is not laid out again. */
export function setText(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Sets an attribute if it differs; null takes it away. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Shows a text in an element that is hidden while there is none. */
export function setNote(node, text) {
  node.hidden = !text;
  setText(node, text ?? "");
}

/**
 * Makes the children of `parent` those of `items`, in their order, keeping the element of a key
 * from one call to the next. `make(item)` returns the new element, `update(element, item)` fills it.
 */
export function keyed(parent, kept, items, keyOf, make, update) {
  const wanted = new Map(items.map((item) => [keyOf(item), item]));
  for (const [key, node] of kept) {
    if (wanted.has(key)) continue;
    node.remove();
    kept.delete(key);
  }
  let place = parent.firstElementChild;
  for (const [key, item] of wanted) {
    let node = kept.get(key);
    if (!node) kept.set(key, (node = make(item)));
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
}
