// The sample app: a patient, the vital signs and the prescriptions, read over SMART on FHIR.
// Read this file from top to bottom; `smart.js` is how the launch works, `chart.js` draws.

import { authorize, finish, Refused } from "./smart.js";
import { chart, day, element } from "./chart.js";

const CLIENT_ID = "salus-sample-app"; // as the app was registered: public, so there is no secret
const REDIRECT_URI = new URL(".", location.href).href; // this page
// An app talks only to servers that it knows: anybody can write an `iss` into a link.
const SERVERS = [new URL("/fhir", location.href).href];

// What we ask for, and no more: vital signs rather than every Observation.
const CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category|vital-signs";
const SCOPES = [
  "openid", "fhirUser",
  "patient/Patient.r",
  "patient/Encounter.r",
  `patient/Observation.rs?category=${CATEGORY}`,
  "patient/MedicationRequest.rs",
];

const LOINC = "http://loinc.org";
const VITALS = [ // what is charted: a title, and the LOINC code of each line
  { title: "Blood pressure", codes: { "8480-6": "Systolic", "8462-4": "Diastolic" } },
  { title: "Heart rate", codes: { "8867-4": "Heart rate" } },
  { title: "Weight", codes: { "29463-7": "Weight" } },
  { title: "Temperature", codes: { "8310-5": "Temperature" } },
];

const main = document.querySelector("main");
const parameters = new URLSearchParams(location.search);
start().catch((error) => show(failed(error), again()));

/** The same address serves three purposes, which its parameters tell apart. */
async function start() {
  if (parameters.has("code") || parameters.has("error")) {
    history.replaceState(null, "", REDIRECT_URI); // the code is used up: out of the address
    return present(await finish(parameters));
  }
  if (parameters.has("launch")) {
    return launch(parameters.get("iss"), parameters.get("launch")); // by an EHR
  }
  const text = "No EHR has launched this app. It can also start by itself:";
  return show(notice("Sample app", text), again());
}

/** `launch` asks for the context that the EHR chose, `launch/patient` lets the user choose. */
async function launch(iss, handle) {
  if (!SERVERS.includes(iss)) throw new Error("This app does not know the server that launched it.");
  return authorize({
    iss,
    launch: handle,
    clientId: CLIENT_ID,
    redirectUri: REDIRECT_URI,
    scope: [handle ? "launch" : "launch/patient", ...SCOPES].join(" "),
  });
}

async function present(session) {
  const [patient, user, visit, vitals, prescriptions] = await Promise.all([
    session.read(`Patient/${session.patient}`),
    session.user && session.read(session.user),
    session.encounter && session.may("Encounter") && session.read(`Encounter/${session.encounter}`),
    session.may("Observation") && session.search(query("Observation", { category: CATEGORY })),
    session.may("MedicationRequest") &&
      session.search(query("MedicationRequest", { status: "active" })),
  ]);
  show(
    banner(patient, user, visit),
    section("Vital signs", vitals, charts),
    section("Prescriptions", prescriptions, prescribed),
  );
  document.title = `${name(patient)} – Salus sample app`;

  function query(type, conditions) {
    const about = { patient: session.patient, ...conditions, _count: 200 };
    return `${type}?${new URLSearchParams(about)}`;
  }
}

/** Whose data this is comes first, and always. */
function banner(patient, user, visit) {
  const made = element("header", { class: "patient" });
  made.append(element("h1", {}, name(patient)));
  const facts = {
    Born: patient.birthDate ? `${day(patient.birthDate)}${age(patient)}` : "unknown",
    Sex: patient.gender ?? "unknown",
    Record: patient.identifier?.[0]?.value,
    Visit: visit && `${day(visit.period?.start)} (${visit.class?.display ?? visit.class?.code})`,
    "Signed in": user && name(user),
  };
  const list = element("dl", {});
  for (const [term, fact] of Object.entries(facts)) {
    if (fact) list.append(pair(term, fact));
  }
  made.append(list);
  return made;
}

function pair(term, fact) {
  const made = element("div", {});
  made.append(element("dt", {}, term), element("dd", {}, fact));
  return made;
}

/** A part of the page; it says so when its data were not shared, or there are none. */
function section(title, resources, draw) {
  const made = element("section", {});
  const heading = element("h2", {}, title);
  const none = resources ? "None on record." : "These were not shared with this app.";
  made.append(heading, resources?.length ? draw(resources) : element("p", {}, none));
  return made;
}

function charts(observations) {
  const made = element("div", { class: "vitals" });
  for (const { title, codes } of VITALS) {
    const lines = Object.entries(codes)
      .map(([code, label]) => ({ name: label, points: values(observations, code) }))
      .filter((line) => line.points.length);
    if (lines.length) made.append(chart({ title, unit: lines[0].points[0].unit, lines }));
  }
  return made;
}

/** The values of one code by time: an Observation's own, or a component's (blood pressure). */
function values(observations, code) {
  const found = [];
  for (const observation of observations) {
    for (const part of [observation, ...(observation.component ?? [])]) {
      const { value, unit } = part.valueQuantity ?? {};
      if (value !== undefined && has(part.code, LOINC, code)) {
        found.push({ time: new Date(observation.effectiveDateTime), value, unit });
      }
    }
  }
  return found.sort((one, other) => one.time - other.time);
}

const has = (concept, system, code) =>
  (concept.coding ?? []).some((coding) => coding.system === system && coding.code === code);

/** Each drug once: a prescription is renewed at every visit. */
function prescribed(requests) {
  const newest = new Map();
  for (const request of requests.sort(byDate)) newest.set(drug(request), request);
  const made = element("table", { class: "prescriptions" });
  const head = made.createTHead().insertRow();
  for (const title of ["Medicine", "How to take it", "Prescribed", "By"]) {
    head.append(element("th", { scope: "col" }, title));
  }
  const body = made.createTBody();
  for (const [title, request] of newest) {
    const row = body.insertRow();
    row.append(element("th", { scope: "row" }, title));
    const how = (request.dosageInstruction ?? []).map((each) => each.text).join("; ");
    for (const text of [how, day(request.authoredOn), request.requester?.display ?? ""]) {
      row.insertCell().textContent = text;
    }
  }
  // Too wide for a small screen: then it scrolls by itself, by keyboard too.
  const wide = element("div", { class: "wide", role: "group", tabindex: 0, "aria-label": "Prescriptions, a table that scrolls" });
  wide.append(made);
  return wide;
}

const byDate = (one, other) => (one.authoredOn ?? "").localeCompare(other.authoredOn ?? "");

function drug({ medicationCodeableConcept: concept, medicationReference: reference }) {
  return concept?.text ?? concept?.coding?.[0]?.display ?? reference?.display ?? "Unnamed medicine";
}

function name({ name: names = [] }) {
  const { text, prefix = [], given = [], family = "" } = names[0] ?? {};
  return text ?? [...prefix, ...given, family].join(" ");
}

function age({ birthDate }) {
  if (!birthDate) return "";
  const years = Math.floor((Date.now() - new Date(birthDate)) / (365.2425 * 24 * 3600 * 1000));
  return ` (${years} years)`;
}

function notice(title, text) {
  const made = element("section", { role: "status" });
  made.append(element("h1", {}, title), element("p", {}, text));
  return made;
}

function failed(error) {
  if (error instanceof Refused) {
    return notice("You shared nothing", "The app was given no data. You can start again:");
  }
  return notice("That did not work", error.message);
}

function again() {
  const made = element("button", { type: "button" }, "Choose a patient and start");
  made.addEventListener("click", () => {
    launch(SERVERS[0]).catch((error) => show(failed(error), again()));
  });
  return made;
}

function show(...nodes) {
  main.replaceChildren(...nodes);
  main.removeAttribute("aria-busy");
}
