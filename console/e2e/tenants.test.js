import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { assertAccessible } from "./support/accessible.js";
import { signInToApi, verify } from "./support/api.js";
import { fixture } from "./support/fixture.js";
import { operator } from "./support/keymark.js";

const CREATE =
  "mutation ($id: ID!, $name: String!) { createTenant(id: $id, name: $name) { tenant { id } } }";

describe("tenants", () => {
  const env = fixture();

  const createTenant = async (id, name) =>
    (await signInToApi(env.keymark)).query(CREATE, { id, name });

  /** Opens the menu that switches the tenant, and searches it. */
  const searchTenants = async (page, text) => {
    await page.getByRole("button", { name: /^Tenant: / }).click();
    await page.getByRole("searchbox", { name: "Search tenants" }).last().fill(text);
  };

  test("an operator of the platform creates a tenant, and works in it", async () => {
    const { page, signIn, row, button, link, assertClean } = await env.openWindow();
    const heading = (name) => page.getByRole("heading", { name, exact: true }).waitFor();
    await signIn();
    await link("Administration").first().click();
    await heading("Administration");
    await link("Tenants").first().click();
    await heading("Tenants");
    await row("default").waitFor();

    await button("Create tenant").click();
    await page.getByLabel("Name").fill("Acme Corp");
    assert.equal(await page.getByLabel("ID").inputValue(), "acme-corp");
    await page.getByLabel("ID").fill("acme");
    await button("Create").click();
    await page.getByText("Acme Corp was created.").waitFor();
    await row("Acme Corp").waitFor();

    await page.getByRole("link", { name: "Open Acme Corp" }).click();
    await page.getByText("You are in the tenant Acme Corp (acme), not in your own.").waitFor();
    await page.getByText("There are no systems yet.").waitFor();
    assert.equal(new URL(page.url()).pathname, "/t/acme/systems");
    assert.equal(await page.title(), "API Key Management – acme – Keymark");
    await link("Create API key").click();
    await page.getByLabel("System Name").fill("Billing of Acme");
    await button("Submit").click();
    await heading("System Detail: Billing of Acme");
    assert.match(new URL(page.url()).pathname, /^\/t\/acme\/systems\/./);

    await page.reload();
    await heading("System Detail: Billing of Acme");
    await page.getByText("You are in the tenant Acme Corp").waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
    await link("Audit Log").click();
    await page.getByRole("rowheader", { name: "Created the tenant" }).waitFor();
    const exported = await link("CSV").getAttribute("href");
    const csv = await page.evaluate(async (url) => (await fetch(url)).text(), exported);
    assert.match(csv, /Billing of Acme/);

    await link("Return to default").click();
    await page.getByText("There are no systems yet.").waitFor();
    assert.equal(new URL(page.url()).pathname, "/systems");
    assert.equal(await row("Billing of Acme").count(), 0);
    await page.goBack();
    await page.getByRole("rowheader", { name: "Created the tenant" }).waitFor();
    await page.getByText("You are in the tenant Acme Corp").waitFor();
    assertClean();
  });

  test("a new tenant gets its first operator, who manages it alone", async () => {
    const { page, signIn, row, button, link, assertClean } = await env.openWindow();
    await signIn("/tenants");
    await button("Create tenant").click();
    await page.getByLabel("Name", { exact: true }).fill("Umbrella");
    await button("Create").click();
    await link("Add its first operator").click();
    await page.getByRole("heading", { name: "Operators" }).waitFor();
    await page.getByText("You are in the tenant Umbrella (umbrella)").waitFor();
    assert.equal(new URL(page.url()).pathname, "/t/umbrella/operators");
    assert.equal(await row("admin").count(), 0);
    await button("Add operator").click();
    const form = page.getByRole("dialog", { name: "Add Operator" });
    await form.getByLabel("Username").fill("uma");
    await form.getByLabel("operator_management:view").check();
    await form.getByLabel("operator_management:edit").check();
    await button("Add").click();
    const shown = page.getByRole("dialog", { name: "Operator Added" });
    const password = await shown.getByLabel("One-time Password").inputValue();
    await shown.getByRole("button", { name: "Copy" }).click();
    await shown.getByText("The password was copied.").waitFor();
    await shown.getByRole("button", { name: "Close" }).click();
    await row("uma").waitFor();

    const own = await env.openWindow();
    await own.page.goto("/");
    await own.page.getByLabel("Username").fill("uma");
    await own.page.getByLabel("Password").fill(password);
    await own.button("Sign in").click();
    await own.page.getByLabel("Current password").fill(password);
    await own.page.getByLabel("New password", { exact: true }).fill(operator.password);
    await own.page.getByLabel("New password, repeated").fill(operator.password);
    await own.button("Change password").click();
    await own.link("Administration").first().click();
    await own.link("Operators").first().click();
    await own.row("uma").waitFor();
    assert.equal(await own.page.getByRole("rowheader").count(), 1);
    assertClean();
  });

  test("what happens in the tenant is live while an operator of the platform is there", async () => {
    await createTenant("live", "Live Corp");
    const { page, signIn, row, assertClean } = await env.openWindow();
    await signIn("/t/live/systems");
    await page.getByText("There are no systems yet.").waitFor();
    const { token } = await signInToApi(env.keymark);
    const response = await fetch(env.keymark.graphql, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
        "x-keymark-tenant": "live",
      },
      body: JSON.stringify({ query: 'mutation { createSystem(name: "Shop") { system { id } } }' }),
    });
    assert.equal((await response.json()).errors, undefined);
    await row("Shop").waitFor();
    assertClean();
  });

  test("the menu is searched and used with the keyboard", async () => {
    for (const at of [1, 2, 3]) await createTenant(`keys-${at}`, `Keyboard ${at}`);
    const { page, signIn, assertClean } = await env.openWindow();
    const search = page.getByRole("searchbox", { name: "Search tenants" });
    const path = () => new URL(page.url()).pathname;
    await signIn("/audit");
    await page.getByRole("button", { name: /^Tenant: / }).focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.activeElement?.type === "search");
    await page.keyboard.type("keyboard");
    await page.getByRole("link", { name: "Your own" }).waitFor({ state: "detached" });
    await page.getByRole("link", { name: "Keyboard 3" }).waitFor();
    assert.equal(await page.getByRole("listitem").filter({ hasText: "keys-" }).count(), 3);
    await page.keyboard.press("Enter");
    await page.getByText("Several tenants match.").waitFor();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.getByText("You are in the tenant Keyboard 2").waitFor();
    assert.equal(path(), "/t/keys-2/audit");

    await page.getByRole("button", { name: "Tenant: Keyboard 2. Switch tenant" }).focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.activeElement?.type === "search");
    await page.keyboard.press("Escape");
    await search.waitFor({ state: "detached" });
    await page.keyboard.press("Enter");
    await search.fill("keys-3");
    await page.keyboard.press("Enter");
    await page.getByText("You are in the tenant Keyboard 3").waitFor();
    await searchTenants(page, "default");
    await page.keyboard.press("Enter");
    await page.waitForURL((url) => url.pathname === "/audit");
    await page.getByText("You are in the tenant").waitFor({ state: "detached" });
    assertClean();
  });

  test("a tenant is renamed, limited, suspended, resumed and deleted", async () => {
    await createTenant("managed", "Managed");
    const api = await signInToApi(env.keymark);
    const { page, signIn, row, button, assertClean } = await env.openWindow();
    const visitor = await env.openWindow();
    await visitor.signIn("/t/managed/systems");
    await signIn("/tenants?search=managed");
    await row("Managed").waitFor();
    await page.getByText("1 tenant matches").waitFor();
    await button("Details of Managed").click();

    await button("Rename").click();
    await page.getByLabel("Name", { exact: true }).fill("Managed Well");
    await page.getByRole("dialog").getByRole("button", { name: "Rename" }).click();
    await page.getByText("Managed Well is the new name.").waitFor();
    await row("Managed Well").waitFor();
    await visitor.page.getByText("You are in the tenant Managed Well").waitFor();

    await button("Change Policy").click();
    await page.getByLabel("Longest life of a new key").fill("0");
    await button("Save").click();
    await page.getByText("Enter 1 to 3,650 days, or nothing.").waitFor();
    await page.getByLabel("Longest life of a new key").fill("90");
    await button("Save").click();
    await page.getByText("Managed Well has another policy.").waitFor();
    await page.getByText("90 days").waitFor();

    await button("Suspend").click();
    await page.getByLabel("Reason").fill("Unpaid");
    await button("Confirm").click();
    await page
      .getByText(/was suspended\. Every key, session and token of it is refused everywhere/)
      .waitFor();
    await visitor.page.getByText("The tenant was suspended").waitFor();
    await button("Resume").click();
    await button("Confirm").click();
    await page.getByText("Managed Well was resumed.").waitFor();
    await visitor.page.getByText("The tenant was suspended").waitFor({ state: "detached" });

    // Another operator creates a system while the dialog is open.
    await button("Delete").click();
    await visitor.link("Create API key").click();
    await visitor.page.getByLabel("System Name").fill("Still needed");
    await visitor.button("Submit").click();
    await visitor.page.getByRole("heading", { name: "System Detail: Still needed" }).waitFor();
    await button("Confirm").click();
    await page
      .getByRole("alert")
      .getByText(/system/)
      .waitFor();
    await button("Cancel").click();
    await visitor.button("Delete System").click();
    await visitor.button("Confirm").click();
    await visitor.page.getByText("Still needed was deleted.").waitFor();
    await button("Delete").click();
    await button("Confirm").click();
    await page.getByText("Managed Well was deleted.").waitFor();
    await page.getByText("No tenant matches").waitFor();
    const { tenants } = await api.query('{ tenants(search: "managed") { totalCount } }');
    assert.equal(tenants.totalCount, 0);
    await visitor.page
      .getByRole("heading", { name: "You cannot act in the tenant managed" })
      .waitFor();
    await visitor.link("Go to your own tenant").click();
    await visitor.page.getByRole("heading", { name: "API Key Management" }).waitFor();
    assertClean();
  });

  test("keys of a suspended tenant are refused, and its operators are signed out", async () => {
    await createTenant("shut", "Shut");
    const options = ["--tenant=shut", "--permissions=view,create,edit", "--password-stdin"];
    await env.keymark.manageOperator("add", "sam", ...options);
    const sam = await signInToApi(env.keymark, "sam");
    const apiKey = await sam.generateKey(await sam.createSystem("Shop"));
    assert.equal(await verify(env.keymark, apiKey), "VALID");
    const window = await env.openWindow();
    await window.signIn("/", "sam");
    const { page, signIn, button } = await env.openWindow();
    await signIn("/tenants?search=shut");
    await button("Details of Shut").click();
    await button("Suspend").click();
    await button("Confirm").click();
    await page.getByText("Shut was suspended.").waitFor();
    assert.equal(await verify(env.keymark, apiKey), "SUSPENDED");
    await window.page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
    await window.page.getByLabel("Username").fill("sam");
    await window.page.getByLabel("Password").fill(operator.password);
    await window.button("Sign in").click();
    await window.page
      .getByRole("alert")
      .getByText(/suspended/)
      .waitFor();
  });

  test("an operator of a tenant never sees the switcher, or another tenant", async () => {
    await createTenant("other", "Other");
    const options = ["--tenant=own", "--permissions=all", "--password-stdin"];
    await env.keymark.manageOperator("add", "olga", ...options);
    const { page, signIn, link } = await env.openWindow();
    await signIn("/", "olga");
    await page.getByText("There are no systems yet.").waitFor();
    assert.equal(await page.getByRole("button", { name: /^Tenant: / }).count(), 0);
    await link("Administration").first().click();
    await page.getByRole("heading", { name: "Administration" }).waitFor();
    assert.equal(await link("Tenants").count(), 0);
    await page.goto("/tenants");
    await page.getByText("tenant_management:view").waitFor();
    for (const tenant of ["other", "no-such-tenant"]) {
      await page.goto(`/t/${tenant}/systems`);
      await page.getByRole("heading", { name: `You cannot act in the tenant ${tenant}` }).waitFor();
    }
    await link("Go to your own tenant").click();
    await page.getByText("There are no systems yet.").waitFor();
    // Their own tenant in the address is no other one.
    await page.goto("/t/own/systems");
    await page.getByText("There are no systems yet.").waitFor();
    assert.equal(await page.getByRole("complementary", { name: "Tenant" }).count(), 0);
  });

  test("signing in continues in the tenant of the address", async () => {
    await createTenant("later", "Later");
    const { page, signIn } = await env.openWindow();
    await signIn("/t/later/review");
    await page.getByText("You are in the tenant Later").waitFor();
    assert.equal(new URL(page.url()).pathname, "/t/later/review");
    await page.getByRole("button", { name: "Signed in as" }).click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("heading", { name: "Sign in to Keymark" }).waitFor();
    assert.equal(new URL(page.url()).pathname, "/sign-in");
  });

  test("the overview counts what there is, live, and leads to it", async () => {
    const api = await signInToApi(env.keymark);
    await api.createSystem("Counted");
    const { page, signIn, link, assertClean } = await env.openWindow();
    await signIn("/administration");
    const count = (label) =>
      page
        .getByRole("main")
        .getByRole("listitem")
        .filter({ has: link(label) })
        .getByRole("status");
    await page.getByText("Verifies from its cache").waitFor();
    await count("Systems").filter({ hasText: "1" }).waitFor();
    await count("Operators").filter({ hasText: "1" }).waitFor();
    await count("Suspended").filter({ hasText: "0" }).waitFor();
    await api.createSystem("Counted too");
    await count("Systems").filter({ hasText: "2" }).waitFor();
    await link("Key expires within 30 days").click();
    await page.getByRole("heading", { name: "Review" }).waitFor();
    assert.equal(new URL(page.url()).search, "?find=expiring&days=30");
    assertClean();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`the pages of the platform pass WCAG 2.2 AA, ${colorScheme}`, async () => {
      const name = `Accessible, ${colorScheme}`;
      await createTenant(`accessible-${colorScheme}`, name);
      const window = await env.openWindow();
      const { page, signIn, row, button, assertClean } = window;
      const dialog = () => page.getByRole("dialog").waitFor();
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.setViewportSize({ width: 360, height: 740 });
      await signIn("/administration");
      await page.getByText("Key expires within 30 days").waitFor();
      await assertAccessible(window, "the overview");
      await page.setViewportSize({ width: 1440, height: 900 });
      await assertAccessible(window, "the wide overview");
      await page.goto("/tenants");
      await row(name).waitFor();
      await assertAccessible(window, "the tenants");
      await button(`Details of ${name}`).click();
      await button("Change Policy").waitFor();
      await assertAccessible(window, "a tenant");
      await page.setViewportSize({ width: 360, height: 740 });
      await assertAccessible(window, "the tenants, narrow");
      for (const action of ["Rename", "Change Policy", "Suspend", "Delete"]) {
        await button(action).click();
        await dialog();
        await assertAccessible(window, action);
        await page.keyboard.press("Escape");
      }
      await button("Create tenant").click();
      await dialog();
      await assertAccessible(window, "creating a tenant");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: /^Tenant: / }).click();
      await page.getByRole("link", { name }).last().waitFor();
      await assertAccessible(window, "the menu of tenants");
      await page.goto(`/t/accessible-${colorScheme}/systems`);
      await page.getByText("You are in the tenant").waitFor();
      await assertAccessible(window, "in another tenant");
      assertClean();
      // From here on the browser logs the refused requests.
      await page.goto("/t/none/systems");
      await page.getByRole("heading", { name: "You cannot act in the tenant none" }).waitFor();
      await assertAccessible(window, "a tenant that does not exist");
    });
  }
});
