import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signInToApi } from "./support/api.js";
import { fixture } from "./support/fixture.js";

describe("changes by another operator", () => {
  const env = fixture();

  test("do not add, remove or move rows until the pointer leaves the list", async () => {
    const api = await signInToApi(env.keymark);
    const first = await api.createSystem("Frozen first");
    const second = await api.createSystem("Frozen second");
    await api.createSystem("Frozen third");
    const { page, signIn, row, assertClean } = await env.openWindow();
    await signIn("/systems?search=frozen");
    const names = () => page.getByRole("rowheader").allTextContents();
    await row("Frozen third").hover();

    await api.createSystem("Frozen added");
    await page.getByText("The list has changed. It updates when you leave it.").waitFor();
    await api.renameSystem(second, "Frozen zebra");
    await row("Frozen zebra").waitFor();
    await api.deleteSystem(first);
    await row("Frozen first").getByText("Deleted").waitFor();
    assert.deepEqual(await names(), ["Frozen first", "Frozen zebra", "Frozen third"]);

    await page.mouse.move(5, 5);
    await row("Frozen first").waitFor({ state: "detached" });
    await row("Frozen added").waitFor();
    assert.deepEqual(await names(), ["Frozen added", "Frozen third", "Frozen zebra"]);
    assertClean();
  });

  test("to a name that is about to be confirmed are taken over by the dialog", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Old");
    const { page, signIn, button, assertClean } = await env.openWindow();
    await signIn(`/systems/${id}/edit`);
    await page.getByLabel("System Name").fill("Mine here");
    await button("Save").click();
    const dialog = page.getByRole("dialog", { name: "Confirm the changes" });
    await dialog.getByText("Confirm: rename the system").waitFor();
    await api.generateKey(id);
    await api.renameSystem(id, "Old, theirs");
    await dialog
      .getByText("Another operator changed the name from “Old” to “Old, theirs” in the meantime.")
      .waitFor();
    assert.deepEqual(await dialog.getByRole("definition").allTextContents(), [
      "Old, theirs",
      "Mine here",
    ]);
    await page.keyboard.press("Enter");
    await page.getByText("The system was renamed to Mine here.").waitFor();
    assertClean();
  });

  test("to a name that is being edited are shown and not overwritten", async () => {
    const api = await signInToApi(env.keymark);
    const id = await api.createSystem("Contested");
    const { page, signIn, button, link } = await env.openWindow();
    await signIn(`/systems/${id}/edit`);
    await page.getByLabel("System Name").fill("Mine");
    await button("Save").click();
    await page.getByRole("dialog", { name: "Confirm the changes" }).waitFor();
    assert.deepEqual(await page.getByRole("dialog").getByRole("definition").allTextContents(), [
      "Contested",
      "Mine",
    ]);
    await button("Cancel").click();
    await api.renameSystem(id, "Theirs");
    await page
      .getByText("Another operator changed the name to “Theirs” in the meantime.")
      .waitFor();
    assert.equal(await page.getByLabel("System Name").inputValue(), "Mine");

    await button("Keep what I typed").click();
    await button("Save").click();
    await button("Confirm").click();
    await page.getByText("The system was renamed to Mine.").waitFor();
    await link("Edit").click();
    await api.renameSystem(id, "Theirs again");
    await button("Take their name").click();
    assert.equal(await page.getByLabel("System Name").inputValue(), "Theirs again");
    await button("Save").click();
    await page.getByText("This is already the system's name.").waitFor();
  });
});
