import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { ViewerPartsFragment } from "../gql/graphql";
import { type Action, permissionCode } from "../text/permissions";

export const ViewerContext = createContext<ViewerPartsFragment | undefined>(undefined);

/** The signed-in operator. */
export function useViewer(): ViewerPartsFragment {
  const viewer = useContext(ViewerContext);
  if (viewer === undefined) throw new Error("used while nobody is signed in");
  return viewer;
}

export const useMay = (action: Action): boolean =>
  useViewer().permissions.includes(permissionCode(action));
