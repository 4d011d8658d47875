// Writes every page and dialog, light and dark, 360, 768 and 1440 px wide, into screenshots/, to be looked at.
import { mkdirSync, rmSync } from "node:fs";
import { signInToApi } from "../e2e/support/api.js";
import { openBrowser, openWindow } from "../e2e/support/browser.js";
import { startKeymark } from "../e2e/support/keymark.js";

const FOLDER = new URL("../screenshots/", import.meta.url).pathname;
const WIDTHS = [360, 768, 1440];
const LONG = "W".repeat(64);

process.chdir(new URL("..", import.meta.url).pathname);
rmSync(FOLDER, { recursive: true, force: true });
mkdirSync(FOLDER);

const keymark = await startKeymark();
const browser = await openBrowser();
try {
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
  const bare = await api.createSystem("Checkout");
  await api.renameSystem(bare, "Checkout (production)");
  await keymark.manageOperator("add", "creator", "--permissions=create", "--password-stdin");

  for (const colorScheme of ["light", "dark"]) {
    for (const width of WIDTHS) {
      await shoot(`${colorScheme}-${width}`, { colorScheme, width, id, bare, api });
    }
  }
} finally {
  await browser.close();
  await keymark.stop();
}

async function shoot(suffix, { colorScheme, width, id, bare, api }) {
  const { page, signIn, close } = await openWindow(browser, keymark);
  await page.emulateMedia({ colorScheme });
  await page.setViewportSize({ width, height: 900 });
  const take = (name) => page.screenshot({ path: `${FOLDER}${name}-${suffix}.png` });
  const button = (name) => page.getByRole("button", { name, exact: true });

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
  await page.getByText("Another operator").waitFor();
  await take("edit-meanwhile");
  await api.renameSystem(id, "Billing (staging)");
  await page.goto(`/systems/${bare}/key`);
  await button("Generate API Key").click();
  await page.getByRole("dialog").waitFor();
  await button("Copy").click();
  await take("key-dialog");
  await button("Close").click();
  await button("Revoke API Key").click();
  await take("revoke-dialog");
  await button("Confirm").click();
  await page.getByText("Refused everywhere").waitFor();
  await take("key");
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

  const creator = await openWindow(browser, keymark);
  await creator.page.emulateMedia({ colorScheme });
  await creator.page.setViewportSize({ width, height: 900 });
  await creator.signIn("/", "creator");
  await creator.page.getByText("Permission required").waitFor();
  await creator.page.screenshot({ path: `${FOLDER}forbidden-${suffix}.png` });
  await creator.close();
}
