import { useId } from "preact/hooks";
import { useViewer } from "../session/viewer-context";
import { permissionCodes } from "../text/permissions";

interface CodesFieldProps {
  /** The chosen codes. */
  codes: readonly string[];
  /** The codes that are held already, which can be taken away in any case. */
  held?: readonly string[];
  /** Whether the codes are for somebody of the platform. */
  isPlatform: boolean;
  onChoose: (codes: string[]) => void;
}

/** Chooses permission codes. The signed-in operator can give only those that they hold themselves. */
export function CodesField({ codes, held = [], isPlatform, onChoose }: CodesFieldProps) {
  const id = useId();
  const viewer = useViewer();
  const toggle = (code: string, on: boolean) =>
    onChoose(on ? [...codes, code] : codes.filter((other) => other !== code));
  return (
    <fieldset class="choices">
      <legend>Permission codes</legend>
      {permissionCodes(isPlatform).map(({ code, allows }) => {
        const mayGive = viewer.permissions.includes(code);
        return (
          <div key={code} class="choice">
            <input
              id={`${id}-${code}`}
              type="checkbox"
              checked={codes.includes(code)}
              disabled={!mayGive && !held.includes(code)}
              aria-describedby={`${id}-${code}-allows`}
              onChange={(event) => toggle(code, event.currentTarget.checked)}
            />
            <div>
              <label for={`${id}-${code}`}>{code}</label>
              <p id={`${id}-${code}-allows`} class="quiet">
                {allows}
                {!mayGive &&
                  (held.includes(code)
                    ? " You do not hold this code: once you have taken it away, you cannot give it back."
                    : " You do not hold this code, so you cannot give it.")}
              </p>
            </div>
          </div>
        );
      })}
    </fieldset>
  );
}
