import { type OpenSocket, openSocket, type SocketState } from "@keymark/client";
import type { Observable } from "../live/observable";
import { untilReachable } from "../live/reachable";
import { graphqlWebSocketUrl } from "./urls";

/** `ended` means that the server closed the socket because no operator is signed in. */
export interface ConnectionStatus {
  state: "connecting" | SocketState;
  /** How many times the state returned to `live`. */
  reconnections: number;
}

/** Opens the one WebSocket that all subscriptions share. The page's cookie authenticates it. */
export function openSessionSocket(
  connection: Observable<ConnectionStatus>,
  tenant: string | undefined,
): OpenSocket {
  let connectedBefore = false;
  return openSocket({
    url: graphqlWebSocketUrl(),
    ...(tenant !== undefined && { connectionParams: { tenant } }),
    untilReachable,
    onState(state) {
      const isReconnection = state === "live" && connectedBefore;
      connectedBefore ||= state === "live";
      connection.update(({ reconnections }) => ({
        state,
        reconnections: reconnections + (isReconnection ? 1 : 0),
      }));
    },
  });
}
