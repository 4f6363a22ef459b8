// The admin API, asked with the operator's token.
// The token lives in this tab's sessionStorage: another tab, or a restart of the browser, asks again.

const TOKEN_KEY = "turnpike-admin-token";

/** An answer that is an error; `code` is the API's stable word, `message` its sentence. */
export class Fault extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

let onLocked = () => {};

/** Calls `listener(fault)` whenever the API wants a token, or another one. */
export function whenLocked(listener) {
  onLocked = listener;
}

/** Keeps the token for this tab. */
export function setToken(token) {
  sessionStorage.setItem(TOKEN_KEY, token);
}

/** Whether a token is kept. */
export const hasToken = () => sessionStorage.getItem(TOKEN_KEY) !== null;

/** Asks the API, below `api/v1/`; returns the response, or throws a Fault. */
export async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const headers = { accept: "application/json", ...options.headers };
  if (token !== null) headers.authorization = `Bearer ${token}`;
  const response = await fetch(new URL(`api/v1/${path}`, document.baseURI), {
    ...options, headers, cache: "no-store", credentials: "omit", redirect: "error",
  });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const fault = new Fault(response.status, problem.code ?? "", problem.detail ?? `HTTP ${response.status}`);
  if (response.status === 401) onLocked(fault);
  throw fault;
}

/** Gets a document. */
export const get = async (path) => (await ask(path)).json();

/** Sends a request, with a document if there is one; returns the answer's document, or null when it has none. */
export async function send(method, path, document) {
  const body = document === undefined ? {} : { body: JSON.stringify(document), headers: { "content-type": "application/json" } };
  const response = await ask(path, { method, ...body });
  const text = await response.text();
  return text === "" ? null : JSON.parse(text);
}
