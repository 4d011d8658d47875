/** The server accepts unhelpful names such as “app1”, so the console advises against them. */
export const NAMING_ADVICE =
  "3 to 64 characters. Name the application and where it runs, such as “Billing (staging)”, rather than “app1”, “api” or “system”.";
