// Pages that only say something.

import { translatePage } from "./i18n.js";

translatePage();
