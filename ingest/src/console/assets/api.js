// The API: every request of the page passes here, with the credentials of this tab.
//
// They are kept in sessionStorage, go with the tab, and travel in a header, never in an address. A 401
// opens the form to sign in, and the request is made again with what was entered.

const KEY = "loushan.authorization";

let ask = async () => false;

/** Who is asked for credentials: `signIn(why)` resolves to whether there are some now. */
export function askCredentialsFrom(signIn) {
  ask = signIn;
}

/** The header's value, if somebody has signed in. */
export function authorization() {
  return sessionStorage.getItem(KEY);
}

/** Keeps a bearer token for this tab. */
export function keepToken(token) {
  sessionStorage.setItem(KEY, `Bearer ${token}`);
}

/** Keeps a name and a password for this tab, as RFC 7617 has them. */
export function keepPassword(name, password) {
  const bytes = new TextEncoder().encode(`${name}:${password}`);
  sessionStorage.setItem(KEY, `Basic ${btoa(String.fromCharCode(...bytes))}`);
}

/** Forgets the credentials. */
export function forget() {
  sessionStorage.removeItem(KEY);
}

/** An answer that is an error; `message` is what the service says, with what it would accept. */
export class ApiError extends Error {
  constructor(status, body) {
    const said = body?.error ?? `HTTP ${status}`;
    super(body?.accepted ? `${said} (${body.accepted})` : said);
    this.status = status;
    this.body = body;
  }
}

/** An address below the page's own: the service may stand behind a proxy, below a path. */
export function address(path, query = {}) {
  const url = new URL(path.replace(/^\//, ""), document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

/** Makes a request and gives the response, if it is a good one. */
export async function request(
  path,
  { method = "GET", query, body, signal, headers = {}, prompt = true } = {},
) {
  for (;;) {
    const used = authorization();
    const response = await fetch(address(path, query), {
      method,
      signal,
      cache: "no-cache",
      // Without this the browser would show a form of its own for a 401 that allows passwords.
      credentials: "omit",
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: {
        ...headers,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(used ? { Authorization: used } : {}),
      },
    });
    if (response.ok) return response;
    const error = new ApiError(response.status, await response.json().catch(() => null));
    const missing = response.status === 401 || (response.status === 403 && method !== "GET");
    if (!missing || !prompt) throw error;
    // Another request may have asked for them meanwhile.
    if (authorization() === used && !(await ask(error, method !== "GET"))) throw error;
  }
}

/** The JSON of a GET. */
export async function get(path, query, signal) {
  const response = await request(path, { query, signal, headers: { Accept: "application/json" } });
  return response.json();
}

/** Whom the service takes us for; nobody is asked for credentials. */
export async function whoami() {
  const response = await request("api/v1/whoami", { prompt: false });
  return response.json();
}

/** The JSON that a POST answers, or null. */
export async function post(path, { query, body } = {}) {
  const response = await request(path, { method: "POST", query, body });
  return response.json().catch(() => null);
}

/** Saves an answer as a file. Without credentials the browser streams it; with some it passes here. */
export async function save(path, query, name) {
  const link = document.createElement("a");
  link.download = name;
  if (authorization() === null) {
    link.href = address(path, query);
    link.click();
    return;
  }
  const response = await request(path, { query });
  link.href = URL.createObjectURL(await response.blob());
  link.click();
  URL.revokeObjectURL(link.href);
}
