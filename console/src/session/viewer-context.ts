import type { ViewerPartsFragment } from "@keymark/client/documents";
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { type Action, permissionCode } from "../text/permissions";

export const ViewerContext = createContext<ViewerPartsFragment | undefined>(undefined);

/** Returns the signed-in operator. */
export function useViewer(): ViewerPartsFragment {
  const viewer = useContext(ViewerContext);
  if (viewer === undefined) throw new Error("useViewer needs a ViewerContext");
  return viewer;
}

/** Whether the signed-in operator holds the permission code of an action. */
export const useMay = (action: Action): boolean =>
  useViewer().permissions.includes(permissionCode(action));
