// The relay tried by one person: both ends of a call in this page, every packet through this server's relay.

import { IceServers } from "./ice.js";
import { Peer } from "./peer.js";

/** The second end has no devices; it only watches. */
const NOTHING = { stream: new MediaStream(), audioTrack: undefined, videoTrack: undefined };

export class Loopback {
  /** `on` as of a session's. */
  constructor({ search, params, media, on }) {
    Object.assign(this, { media, on });
    const { iceServers: fixed = [] } = JSON.parse(params.pc_config || "{}");
    this.ice = new IceServers({
      url: params.ice_server_url, fixed, search,
      transport: params.ice_server_transports || new URLSearchParams(search).get("tt") || "",
      renewed: (servers) => this.ends.forEach((end) => end.setIceServers(servers)),
      failed: (why) => this.on.notice("no_credentials", { why }),
    });
    this.ends = [];
  }

  async start() {
    const configuration = { iceServers: await this.ice.get(), iceTransportPolicy: "relay" };
    if (this.closed) return;
    this.on.connecting();
    const far = this.#end(configuration, true, NOTHING, () => this.peer);
    this.peer = this.#end(configuration, false, this.media, () => far);
    this.ends = [this.peer, far];
    this.watched = far;
  }

  /** The end that receives shows what came through the relay. */
  #end(configuration, polite, media, other) {
    return new Peer({
      configuration, polite, media,
      renew: () => this.ice.get(),
      on: {
        send: (message) => { if (!this.closed) other()?.handle(message); },
        track: (stream) => { if (polite) this.on.track(stream); },
        state: (state) => { if (polite) this.on.state(state); },
        channel: () => undefined,
        dead: () => this.on.notice("no_relay"),
        gathered: (found) => { if (polite && !found.has("relay")) this.on.notice("no_relay"); },
      },
    });
  }

  async leave() { this.leaveAtOnce(); }

  leaveAtOnce() {
    this.closed = true;
    this.ice.close();
    for (const end of this.ends) end.close();
  }

  refreshTracks() { this.peer?.refreshTracks(); }
}
