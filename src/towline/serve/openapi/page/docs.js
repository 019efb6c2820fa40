// Shows the operations of openapi.json and tries them. All text is set as text: no name of a model is ever read as markup.
"use strict";

const byId = (id) => document.getElementById(id);

function make(tag, text, ...children) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function headers(more) {
  const key = byId("key").value;
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

// Paths are below where this page is, also when the server is mounted in another application.
const addressOf = (path) => new URL(path.slice(1), document.baseURI).href;

async function read() {
  const about = byId("about");
  const place = byId("operations");
  place.replaceChildren();
  try {
    const answer = await fetch(addressOf("/openapi.json"), { headers: headers({}) });
    if (!answer.ok) throw new Error(answer.status === 401 ? "This server asks for a key." : `Status ${answer.status}`);
    const description = await answer.json();
    about.textContent = `${description.info.description} Version ${description.info.version}.`;
    show(description, place);
  } catch (error) {
    about.textContent = `What is served could not be read. ${error.message}`;
  }
}

function show(description, place) {
  const groups = new Map();
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(shown(method.toUpperCase(), path, operation));
    }
  }
  const order = [...description.tags.map((tag) => tag.name), ...groups.keys()];
  for (const tag of new Set(order)) place.append(make("h2", tag), ...(groups.get(tag) || []));
}

function shown(method, path, operation) {
  const box = make("details", "", make("summary", "", make("code", `${method} ${path}`), operation.summary));
  // The form is made when it is opened: a server may have hundreds of operations.
  box.addEventListener("toggle", () => box.open && box.children.length === 1 && box.append(form(method, path, operation)), { once: true });
  return box;
}

function form(method, path, operation) {
  const part = document.createElement("div");
  const content = operation.requestBody?.content ?? {};
  const json = content["application/json"];
  const body = document.createElement("textarea");
  const file = document.createElement("input");
  file.type = "file";
  file.multiple = true;
  file.setAttribute("aria-label", "Files to send");
  if (json) {
    body.value = json.example === undefined ? "" : JSON.stringify(json.example, null, 1);
    body.setAttribute("aria-label", "Body");
    part.append(body, details("Schema of the body", json.schema));
  }
  if (content["multipart/form-data"]) part.append(make("p", "Or files, which are sent instead of the text above:"), file);
  const button = make("button", "Send");
  button.type = "button";
  const said = make("pre", "");
  said.setAttribute("aria-live", "polite");
  button.addEventListener("click", () => send(method, path, json ? body.value : undefined, file.files, said));
  part.append(button, said);
  return part;
}

function details(title, value) {
  return make("details", "", make("summary", title), make("pre", JSON.stringify(value, null, 1)));
}

async function send(method, path, text, files, said) {
  said.classList.remove("failed");
  const options = { method, headers: headers({}) };
  let curl = `curl ${addressOf(path)}`;
  if (files.length) {
    options.body = new FormData();
    for (const file of files) options.body.append("file", file);
    curl += [...files].map((file) => ` -F file=@${quoted(file.name)}`).join("");
  } else if (text !== undefined) {
    options.body = text;
    options.headers["Content-Type"] = "application/json";
    curl += ` -H 'Content-Type: application/json' -d ${quoted(text)}`;
  }
  said.textContent = "…";
  try {
    const answer = await fetch(addressOf(path), options);
    said.textContent = `${curl}\n\n${answer.status} ${answer.statusText}\n${await answer.text()}`;
    said.classList.toggle("failed", !answer.ok);
  } catch (error) {
    said.textContent = `${curl}\n\nNo answer: ${error.message}`;
    said.classList.add("failed");
  }
}

// As a shell takes it.
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

byId("reload").addEventListener("click", read);
byId("key").addEventListener("change", read);
read();
