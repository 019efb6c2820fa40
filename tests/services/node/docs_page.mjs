// Opens /docs as a browser does, with its scripts, and tells what a person would see: node docs_page.mjs URL
import { JSDOM, VirtualConsole } from "jsdom";

const url = process.argv[2];
const faults = [];
const seen = new VirtualConsole();
seen.on("jsdomError", (error) => faults.push(String(error.detail ?? error)));

async function open(more = {}) {
  const dom = await JSDOM.fromURL(`${url}/docs`, {
    runScripts: "dangerously",
    resources: "usable",
    virtualConsole: seen,
    beforeParse(window) {
      // jsdom has no fetch; Node's is the same. It is asked through `more` what to answer instead.
      window.fetch = (address, options) => (more[new URL(address).pathname] ?? fetch)(address, options);
    },
  });
  return dom.window;
}

async function until(holds) {
  for (let turn = 0; turn < 500; turn++) {
    if (holds()) return;
    await new Promise((go) => setTimeout(go, 10));
  }
  throw new Error("nothing came");
}

const window = await open();
const { document } = window;
await until(() => document.querySelectorAll("details").length);
const titles = [...document.querySelectorAll("h2")].map((title) => title.textContent);
const summaries = [...document.querySelectorAll("summary")].map((summary) => summary.textContent);

const box = [...document.querySelectorAll("details")].find((one) => one.textContent.includes("/models/m/predict"));
box.open = true;
await until(() => box.querySelector("textarea"));
const example = box.querySelector("textarea").value;
box.querySelector("button").click();
await until(() => /\n[1-5][0-9][0-9] /.test(box.querySelector("pre[aria-live]").textContent));
const answer = box.querySelector("pre[aria-live]").textContent;

// A description that lies: its names must stay text.
const hostile = "<img src=x onerror=alert(1)>";
const lie = {
  info: { description: hostile, version: hostile },
  tags: [{ name: hostile }],
  paths: { [`/${hostile}`]: { get: { tags: [hostile], summary: hostile } } },
};
const other = await open({ "/openapi.json": async () => new Response(JSON.stringify(lie)) });
await until(() => other.document.querySelectorAll("details").length);
const locked = await open({ "/openapi.json": async () => new Response("{}", { status: 401 }) });
await until(() => locked.document.getElementById("about").textContent.includes("could not"));

console.log(
  JSON.stringify({
    titles,
    summaries,
    example: JSON.parse(example),
    answer,
    images: other.document.querySelectorAll("img").length,
    shown: other.document.querySelector("h2").textContent === hostile,
    locked: locked.document.getElementById("about").textContent,
    faults,
  }),
);
process.exit(0);
