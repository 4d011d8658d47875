/** The server accepts unhelpful names such as “app1”, so the console advises against them. */
export const NAMING_ADVICE =
  "3 to 64 characters. Use a descriptive name, such as “mobile-app-ios”, “checkout-service” or “crm-integration”, rather than “app1”, “api” or “system”: in the list and in the audit log, the name is how you tell whose key it is.";
