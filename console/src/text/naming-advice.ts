/** The server refuses no clear name; it cannot know which ones are of use. */
export const NAMING_ADVICE =
  "3 to 64 characters. Name the application and where it runs, such as “Billing (staging)”, rather than “app1”, “api” or “system”.";
