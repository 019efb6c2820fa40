// Opens pages in Chromium as people meet them, audits them with axe-core and takes pictures: node browse_pages.mjs FOLDER FILE…
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [folder, ...files] = process.argv.slice(2);
const DESK = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 800 };
const WAYS = {
  light: { media: "screen", colorScheme: "light" },
  dark: { media: "screen", colorScheme: "dark", rules: ["color-contrast"] },
  print: { media: "print", colorScheme: "light", rules: ["color-contrast"] },
};

// What paper would cut off, where nobody can scroll, and words that run out of their drawing.
function cutOff() {
  const told = [];
  for (const one of document.querySelectorAll("main *:not(svg *)")) {
    if (one.clientWidth && one.scrollWidth > one.clientWidth + 1) told.push(one.outerHTML.slice(0, 80));
  }
  for (const word of document.querySelectorAll("svg text")) {
    const [own, frame] = [word, word.ownerSVGElement].map((one) => one.getBoundingClientRect());
    if (own.left < frame.left - 1 || own.right > frame.right + 1 || own.bottom > frame.bottom + 1) told.push(word.textContent);
  }
  return told;
}

// Where each drawing and photograph lies on the whole page.
function pictures() {
  return [...document.querySelectorAll("svg, img")].map((one) => {
    const { x, y, width, height } = one.getBoundingClientRect();
    return { x, y: y + window.scrollY, width, height, kind: one.tagName };
  });
}

// As root, which continuous integration is, Chromium has no sandbox; it opens only pages that this test has written.
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const told = [];
for (const file of files) {
  const context = await browser.newContext({ viewport: DESK });
  // axe runs inside the page that it audits; the page itself brings no script, and would not let one in.
  await context.addInitScript({ content: axe });
  const page = await context.newPage();
  const said = [];
  const asked = [];
  page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => said.push(`error: ${error.message}`));
  page.on("request", (request) => asked.push(request.url().slice(0, 80)));
  const url = pathToFileURL(file).href;
  await page.goto(url);
  const ways = {};
  // In another light only colours change, and in another language only words.
  for (const [name, { rules, ...media }] of Object.entries(file.endsWith("-en.html") ? WAYS : { light: WAYS.light })) {
    await page.emulateMedia(media);
    const found = await page.evaluate((runOnly) => window.axe.run(document, runOnly ? { runOnly } : {}), rules);
    ways[name] = {
      rules: found.passes.map((one) => one.id),
      violations: found.violations.map((one) => [one.id, one.nodes.map((node) => node.html.slice(0, 200))]),
      undecided: found.incomplete.map((one) => one.id),
      pictures: await page.evaluate(pictures),
      cut: await page.evaluate(cutOff),
      file: join(folder, `${basename(file, ".html")}-${name}.png`),
    };
    await page.screenshot({ path: ways[name].file, fullPage: true });
  }
  await page.pdf({ path: join(folder, `${basename(file, ".html")}.pdf`), format: "A4" });
  await page.emulateMedia({ media: "screen" });
  await page.setViewportSize(PHONE);
  const wide = await page.evaluate(() => document.scrollingElement.scrollWidth);
  // Where tables scroll within themselves, a keyboard must reach them.
  const small = await page.evaluate(() => window.axe.run(document, { runOnly: ["scrollable-region-focusable"] }));
  told.push({
    ways,
    said,
    asked: asked.filter((one) => one !== url.slice(0, 80) && !one.startsWith("data:")),
    too_wide: wide - PHONE.width,
    small: [small.violations.length, small.passes.length],
    title: await page.title(),
  });
  await context.close();
}
await browser.close();
console.log(JSON.stringify(told));
