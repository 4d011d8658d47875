// Takes screenshots of the console, light and dark.
//   npm run screenshots          every page and dialog, 360, 768 and 1440 px wide, into console/screenshots/
//   npm run screenshots:readme   the list of systems, into docs/images/, for the README
// The pages are in the system-ui font of the machine.
import { mkdirSync, rmSync } from "node:fs";
import { signInToApi } from "../e2e/support/api.js";
import { openBrowser, openWindow } from "../e2e/support/browser.js";
import { startKeymark } from "../e2e/support/keymark.js";

const README_FOLDER = new URL("../../docs/images/", import.meta.url).pathname;
const FOLDER = new URL("../screenshots/", import.meta.url).pathname;
const WIDTHS = [360, 768, 1440];
const COLOR_SCHEMES = ["light", "dark"];
const LONG = "W".repeat(64);

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** The systems in the README's picture: whether they have a key, and how long ago they were updated. */
const README_SYSTEMS = {
  "Billing (production)": { hasKey: true, age: 4 * MINUTE },
  "Billing (staging)": { hasKey: true, age: 2 * DAY },
  Checkout: { hasKey: true, age: 3 * HOUR },
  "Customer portal": { hasKey: true, age: 19 * DAY },
  "Data warehouse": { hasKey: true, age: 8 * DAY },
  "Inventory sync": { hasKey: false, age: 26 * MINUTE },
  "Mobile app (Android)": { hasKey: true, age: 5 * DAY },
  "Mobile app (iOS)": { hasKey: true, age: 5 * DAY },
  Payroll: { hasKey: true, age: 64 * DAY },
  "Reporting dashboard": { hasKey: false, age: 30 * HOUR },
  "Shipping labels": { hasKey: true, age: 33 * DAY },
};

process.chdir(new URL("..", import.meta.url).pathname);
const forReadme = process.argv.includes("--readme");
const keymark = await startKeymark();
const browser = await openBrowser();
try {
  if (forReadme) await takeReadmePictures();
  else await takeAll();
} finally {
  await browser.close();
  await keymark.stop();
}

async function takeReadmePictures() {
  mkdirSync(README_FOLDER, { recursive: true });
  const permissions = "--permissions=view,create,edit,delete";
  await keymark.manageOperator("add", "alice", "--tenant=acme", permissions, "--password-stdin");
  const api = await signInToApi(keymark, "alice");
  for (const [name, { hasKey }] of Object.entries(README_SYSTEMS)) {
    const id = await api.createSystem(name);
    if (hasKey) await api.generateKey(id);
  }
  for (const colorScheme of COLOR_SCHEMES) {
    const { page, signIn, row, close } = await openWindow(browser, keymark, {
      colorScheme,
      deviceScaleFactor: 1.25,
      viewport: { width: 1280, height: 800 },
    });
    await page.route("**/graphql", backdate);
    await signIn("/", "alice");
    await row("Shipping labels").waitFor();
    // Away from the rows: the row under the pointer would be highlighted.
    await page.mouse.move(0, 0);
    await page.screenshot({ path: `${README_FOLDER}console-${colorScheme}.png` });
    await close();
  }
}

/** Passes a request on, and gives the listed systems the ages above: all were created just now. */
async function backdate(route) {
  const response = await route.fetch();
  const result = await response.json();
  for (const system of result.data?.systems?.nodes ?? []) {
    const { age } = README_SYSTEMS[system.name];
    system.updatedAt = new Date(Date.now() - age).toISOString();
    system.createdAt = new Date(Date.now() - age - 20 * DAY).toISOString();
  }
  await route.fulfill({ response, json: result });
}

async function takeAll() {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER);
  const api = await signInToApi(keymark);
  const id = await api.createSystem("Billing (staging)");
  await api.generateKey(id);
  for (const name of [
    LONG,
    "متجر الهدايا",
    "<img src=x onerror=alert(1)>",
    "Warehouse",
    "日本語のシステム",
  ]) {
    await api.createSystem(name);
  }
  const withoutKey = await api.createSystem("Checkout");
  await api.renameSystem(withoutKey, "Checkout (production)");
  await keymark.manageOperator("add", "creator", "--permissions=create", "--password-stdin");

  for (const colorScheme of COLOR_SCHEMES) {
    for (const width of WIDTHS) {
      await takePages(`${colorScheme}-${width}`, { colorScheme, width, id, withoutKey, api });
    }
  }
}

async function takePages(suffix, { colorScheme, width, id, withoutKey, api }) {
  const options = { colorScheme, viewport: { width, height: 900 } };
  const { page, button, signIn, generateKey, close } = await openWindow(browser, keymark, options);
  const take = (name) => page.screenshot({ path: `${FOLDER}${name}-${suffix}.png` });

  await page.goto("/");
  await page.getByLabel("Username").waitFor();
  await take("sign-in");
  await signIn();
  await page.getByRole("rowheader", { name: "Warehouse" }).waitFor();
  await take("systems");
  await page.getByRole("searchbox").fill("nothing like it");
  await page.getByText("No system matches").waitFor();
  await take("systems-no-match");
  await page.goto("/systems/new");
  await page.getByLabel("System Name").fill("warehouse");
  await button("Submit").click();
  await page.getByRole("alert").waitFor();
  await take("create");
  await page.goto(`/systems/${id}`);
  await page.getByRole("row").nth(1).waitFor();
  await take("system");
  await button("Delete System").click();
  await take("delete-dialog");
  await page.goto(`/systems/${id}/edit`);
  await page.getByLabel("System Name").fill("Billing (production)");
  await button("Save").click();
  await page.getByRole("dialog").waitFor();
  await take("edit-dialog");
  await button("Cancel").click();
  await api.renameSystem(id, "Billing (mine)");
  await button("Keep what I typed").waitFor();
  await take("edit-conflict");
  await api.renameSystem(id, "Billing (staging)");
  await page.goto(`/systems/${withoutKey}/key`);
  await generateKey();
  await button("Copy").click();
  await take("key-dialog");
  await button("Close").click();
  await button("Revoke API Key").click();
  await take("revoke-dialog");
  await button("Confirm").click();
  await page.getByText("Refused everywhere").waitFor();
  await take("key");
  await generateKey();
  await button("Copy").click();
  await button("Close").click();
  await button("Rotate Key").click();
  await take("rotate-dialog");
  await button("Confirm").click();
  await button("Copy").click();
  await button("Close").click();
  await page.getByRole("region", { name: "Rotation" }).waitFor();
  await take("rotation");
  await button("Revoke API Key").click();
  await button("Confirm").click();
  await page.getByText("No API key exists that could be revoked.").waitFor();
  await page.goto("/review");
  await page.getByLabel("Select all").check();
  await take("review");
  await button("Suspend").click();
  await take("bulk-dialog");
  await button("Cancel").click();
  await page.goto("/audit");
  await page.getByRole("row").nth(5).waitFor();
  await api.renameSystem(id, "Billing (for a moment)");
  await api.renameSystem(id, "Billing (staging)");
  await page.getByText("2 new entries").waitFor();
  await take("audit");
  await page.goto("/systems/unknown");
  await page.getByText("This system does not exist.").waitFor();
  await take("not-found");
  await page.getByRole("button", { name: "Signed in as" }).click();
  await take("menu");
  await button("Change password").click();
  await page.getByRole("dialog").waitFor();
  await take("password-dialog");
  await close();

  const creator = await openWindow(browser, keymark, options);
  await creator.signIn("/", "creator");
  await creator.page.getByText("Permission required").waitFor();
  await creator.page.screenshot({ path: `${FOLDER}forbidden-${suffix}.png` });
  await creator.close();
}
