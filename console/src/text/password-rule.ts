/** The rule of the server, as the schema states it. */
export const PASSWORD_RULE =
  "A password has at least 12 characters (at most 1024 bytes), is none of the 10,000 most common ones, even if repeated or with digits and signs around it, and contains neither the username nor keymark.";
