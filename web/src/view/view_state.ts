/** What a person has set in a view: plain texts, for whoever keeps them. */
import type { Grouping } from "../model/build.ts";
import type { Orientation } from "./graph.ts";

/** Which picture is shown. */
export type Picture = Orientation | "callers";

/** What a person has set, as texts that an address can hold. Empty: not set. */
export interface ViewState {
  picture: Picture;
  search: string;
  regex: boolean;
  /** `pathKey` of the zoomed node. */
  zoom: string;
  /** `functionKey` of the function whose callers are shown. */
  focus: string;
  grouping: Grouping;
  /** A key of `PROFILE_LISTINGS`, or the name of a label. */
  list: string;
}

export const FIRST_STATE: ViewState = { picture: "icicle", search: "", regex: false, zoom: "", focus: "", grouping: "none", list: "function" };
