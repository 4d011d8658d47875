import { useId } from "preact/hooks";
import { useViewer } from "../session/viewer-context";
import { permissionCodes } from "../text/permissions";

interface CodesFieldProps {
  /** The chosen codes. */
  codes: readonly string[];
  /** Whether the codes are for somebody of the platform. */
  isPlatform: boolean;
  onChoose: (codes: string[]) => void;
}

/** Chooses permission codes. Those that the signed-in operator does not hold cannot be changed. */
export function CodesField({ codes, isPlatform, onChoose }: CodesFieldProps) {
  const id = useId();
  const viewer = useViewer();
  const toggle = (code: string, on: boolean) =>
    onChoose(on ? [...codes, code] : codes.filter((other) => other !== code));
  return (
    <fieldset class="choices">
      <legend>Permission codes</legend>
      {permissionCodes(isPlatform).map(({ code, allows }) => {
        const isHeld = viewer.permissions.includes(code);
        return (
          <div key={code} class="choice">
            <input
              id={`${id}-${code}`}
              type="checkbox"
              checked={codes.includes(code)}
              disabled={!isHeld}
              aria-describedby={`${id}-${code}-allows`}
              onChange={(event) => toggle(code, event.currentTarget.checked)}
            />
            <div>
              <label for={`${id}-${code}`}>{code}</label>
              <p id={`${id}-${code}-allows`} class="quiet">
                {allows}
                {!isHeld && " You do not hold this code, so you cannot give it or take it away."}
              </p>
            </div>
          </div>
        );
      })}
    </fieldset>
  );
}
