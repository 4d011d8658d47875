export { backoff } from "./backoff.js";
export { connect, type Keymark, type KeymarkFollowOptions, type KeymarkOptions } from "./client.js";
export { KeymarkError } from "./error.js";
export {
  type FollowOptions,
  follow,
  type Position,
  type SubscriptionResult,
  type Transport,
} from "./follow.js";
export { keepOpen } from "./keep-open.js";
export { cursorIn, subscribeWithResume } from "./resume.js";
export { type OpenSocket, openSocket, type SocketOptions, type SocketState } from "./socket.js";
export { onWake, pause, retryNow } from "./wake.js";
