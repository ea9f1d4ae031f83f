// SMART App Launch for a page without a server of its own: no library, nothing but the browser.
// https://hl7.org/fhir/smart-app-launch/app-launch.html
//
//   authorize()  asks the FHIR server where to go, and sends the user there       the page is left
//   finish()     changes the code that comes back for a token                     a page again
//   Session      what the token is good for: who, which patient, and reading FHIR

const KEPT = "smart-launch:"; // in sessionStorage: what must survive the way there and back

/** Where a FHIR server wants us to go, in its own words. */
export async function discover(iss) {
  const found = await fetch(`${base(iss)}/.well-known/smart-configuration`, {
    headers: { Accept: "application/json" },
  });
  if (!found.ok) throw new Error(`${iss} does not say how to sign in (${found.status})`);
  return found.json();
}

/**
 * Send the user to the authorization server. `iss` is the FHIR base; `launch` is there when an EHR
 * launched us. The user comes back to `redirectUri`, which has to be registered letter by letter.
 */
export async function authorize({ iss, launch, clientId, redirectUri, scope }) {
  const server = await discover(iss);
  // PKCE: we keep a random verifier and show only its hash. Whoever intercepts the code that comes
  // back cannot use it, because the verifier never went that way.
  const verifier = random();
  const state = random(); // ties the answer to this tab: nobody can slip us somebody else's code
  const nonce = random(); // the same for the id_token
  const kept = { iss, clientId, redirectUri, verifier, nonce, server };
  sessionStorage.setItem(KEPT + state, JSON.stringify(kept));
  const asked = new URL(server.authorization_endpoint);
  asked.search = new URLSearchParams({
    response_type: "code",
    client_id: clientId,
    redirect_uri: redirectUri,
    scope,
    state,
    nonce,
    aud: iss, // for which FHIR server: so that no other can use the token
    code_challenge: await challenge(verifier),
    code_challenge_method: "S256",
    ...(launch ? { launch } : {}),
  });
  location.assign(asked);
}

/** The user shared nothing, which is no fault. */
export class Refused extends Error {}

/** Change the code in the address of this page for a token. Gives a Session. */
export async function finish(parameters) {
  const place = KEPT + parameters.get("state");
  const kept = JSON.parse(sessionStorage.getItem(place));
  sessionStorage.removeItem(place); // good for one answer
  if (!kept) throw new Error("This answer belongs to no launch of this tab. Please launch again.");
  // Several servers, one app: the answer has to come from the one that was asked (RFC 9207).
  const from = parameters.get("iss");
  if (from && from !== kept.server.issuer) throw new Error("Another server answered.");
  if (parameters.get("error") === "access_denied") throw new Refused();
  if (parameters.has("error")) {
    throw new Error(parameters.get("error_description") ?? parameters.get("error"));
  }
  const answer = await fetch(kept.server.token_endpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      code: parameters.get("code"),
      redirect_uri: kept.redirectUri,
      client_id: kept.clientId,
      code_verifier: kept.verifier,
    }),
  });
  const token = await answer.json();
  if (!answer.ok) throw new Error(token.error_description ?? token.error);
  return new Session(kept, token);
}

/**
 * What we were given. It lives in this page only: a reload needs a new launch, and nothing that
 * opens the browser later finds a token in it. An app that has to go on without its user asks for
 * `offline_access` and keeps the refresh token where only it can read.
 */
export class Session {
  #token;

  constructor({ iss, clientId, nonce, server }, answer) {
    this.#token = answer.access_token;
    this.base = base(iss);
    this.patient = answer.patient; // ids: the launch context
    this.encounter = answer.encounter;
    this.banner = answer.need_patient_banner ?? true; // must we say whose data this is?
    this.scopes = answer.scope.split(" "); // may be fewer than we asked for
    this.user = identity(answer.id_token, { issuer: server.issuer, clientId, nonce });
  }

  /** Whether reading this type was allowed. The user may have unticked it. */
  may(type) {
    const granted = new RegExp(`^(patient|user)/(${type}|\\*)\\.(\\*|read|c?ru?d?s?)(\\?|$)`);
    return this.scopes.some((scope) => granted.test(scope));
  }

  /** One resource, by its path below the FHIR base or by its absolute address. */
  async read(path) {
    const url = new URL(path, `${this.base}/`).href;
    // Links in data lead anywhere. The token goes to the server that gave it, and nowhere else.
    if (!url.startsWith(`${this.base}/`)) throw new Error("That is on another server.");
    const found = await fetch(url, {
      headers: { Accept: "application/fhir+json", Authorization: `Bearer ${this.#token}` },
    });
    const resource = await found.json();
    if (!found.ok) throw new Error(resource.issue?.[0]?.diagnostics ?? `${found.status}`);
    return resource;
  }

  /** Every match of a search: a long answer comes in pages, each with a link to the next. */
  async search(path) {
    const found = [];
    for (let next = path; next; ) {
      const page = await this.read(next);
      found.push(...(page.entry ?? []).map((entry) => entry.resource));
      next = page.link.find((link) => link.relation === "next")?.url;
    }
    return found;
  }
}

/**
 * Who signed in: the `fhirUser` of an id_token. It came over TLS from the token endpoint itself, so
 * OpenID Connect (Core, 3.1.3.7) lets us do without its signature, but not without its claims.
 */
function identity(idToken, { issuer, clientId, nonce }) {
  if (!idToken) return undefined;
  const claims = JSON.parse(new TextDecoder().decode(decoded(idToken.split(".")[1])));
  const meant = [claims.aud].flat().includes(clientId) && claims.iss === issuer;
  if (!meant || claims.nonce !== nonce || claims.exp * 1000 < Date.now()) {
    throw new Error("The id_token was not made for this launch.");
  }
  return claims.fhirUser;
}

const base = (iss) => iss.replace(/\/$/, "");

const random = () => encoded(crypto.getRandomValues(new Uint8Array(32)));

async function challenge(verifier) {
  return encoded(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier)));
}

/** Bytes as base64url, the alphabet of PKCE and JWT. */
function encoded(bytes) {
  const text = btoa(String.fromCharCode(...new Uint8Array(bytes)));
  return text.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

function decoded(text) {
  const binary = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}
