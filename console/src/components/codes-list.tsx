import { allowedBy } from "../text/permissions";

/** Permission codes with what each allows. */
export const CodesList = ({ codes }: { codes: readonly string[] }) =>
  codes.length === 0 ? (
    <p>None: nothing but their own sessions and password.</p>
  ) : (
    <ul class="codes">
      {codes.map((code) => (
        <li key={code}>
          <code>{code}</code> <span class="quiet">{allowedBy(code)}</span>
        </li>
      ))}
    </ul>
  );
