import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { signedIn } from "./support/api.js";
import { stage } from "./support/stage.js";

describe("while somebody points at the list", () => {
  const on = stage();

  test("rows neither come, go nor move, and do so once the pointer has left", async () => {
    const api = await signedIn(on.keymark);
    const first = await api.createSystem("Held first");
    const second = await api.createSystem("Held second");
    await api.createSystem("Held third");
    const { page, signIn, row, assertClean } = await on.window();
    await signIn("/systems?search=held");
    const names = () => page.getByRole("rowheader").allTextContents();
    await row("Held third").hover();

    await api.createSystem("Held a little");
    await page.getByText("The list has changed. It updates when you leave it.").waitFor();
    await api.renameSystem(second, "Held zuletzt");
    await row("Held zuletzt").waitFor();
    await api.deleteSystem(first);
    await row("Held first").getByText("Deleted").waitFor();
    assert.deepEqual(await names(), ["Held first", "Held zuletzt", "Held third"]);

    await page.mouse.move(5, 5);
    await row("Held first").waitFor({ state: "detached" });
    await row("Held a little").waitFor();
    assert.deepEqual(await names(), ["Held a little", "Held third", "Held zuletzt"]);
    assertClean();
  });

  test("a rename meanwhile is shown on the edit page, and not overwritten", async () => {
    const api = await signedIn(on.keymark);
    const id = await api.createSystem("Contested");
    const { page, signIn } = await on.window();
    const button = (name) => page.getByRole("button", { name, exact: true });
    await signIn(`/systems/${id}/edit`);
    await page.getByLabel("System Name").fill("Mine");
    await button("Save").click();
    await page.getByRole("dialog", { name: "Confirm the changes" }).waitFor();
    assert.deepEqual(await page.getByRole("dialog").getByRole("definition").allTextContents(), [
      "Contested",
      "Mine",
    ]);
    await api.renameSystem(id, "Theirs");
    await button("Confirm").click();
    await page.getByText("Another operator changed this system in the meantime.").waitFor();
    await button("Cancel").click();
    await page
      .getByText("Another operator changed the name to “Theirs” in the meantime.")
      .waitFor();
    assert.equal(await page.getByLabel("System Name").inputValue(), "Mine");

    await button("Keep what I typed").click();
    await button("Save").click();
    await button("Confirm").click();
    await page.getByText("The system was renamed to Mine.").waitFor();
    await page.getByRole("link", { name: "Edit", exact: true }).click();
    await api.renameSystem(id, "Theirs again");
    await button("Take their name").click();
    assert.equal(await page.getByLabel("System Name").inputValue(), "Theirs again");
    await button("Save").click();
    await page.getByText("This is already the system's name.").waitFor();
  });
});
