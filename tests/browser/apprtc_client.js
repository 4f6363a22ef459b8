// A page that speaks AppRTC as AppRTC's own page does, and nothing newer: the first in the room posts, the second
// uses its socket; whoever began the call answers no offer; "bye" makes the other begin. It has no data channel.

window.apprtc = async (room, search) => {
  const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
  const { params } = await (await fetch(`/join/${room}${search}`, { method: "POST" })).json();
  const { iceServers } = await (await fetch(params.ice_server_url, { method: "POST" })).json();
  const call = { initiator: params.is_initiator === "true", client: params.client_id, unexpected: [] };
  const socket = new WebSocket(params.wss_url);
  await new Promise((resolve) => socket.addEventListener("open", resolve));
  socket.send(JSON.stringify({ cmd: "register", roomid: room, clientid: params.client_id }));
  let chain = Promise.resolve();
  const say = (message) => {
    const text = JSON.stringify(message);
    if (!call.initiator) socket.send(JSON.stringify({ cmd: "send", msg: text }));
    else chain = chain.then(() => fetch(`/message/${room}/${params.client_id}${search}`, { method: "POST", body: text }));
  };
  const open = () => {
    const pc = new RTCPeerConnection({ ...JSON.parse(params.pc_config), iceServers, iceTransportPolicy: "relay" });
    call.pc = pc;
    for (const track of media.getTracks()) pc.addTrack(track, media);
    pc.addEventListener("icecandidate", ({ candidate }) => {
      if (candidate) say({ type: "candidate", label: candidate.sdpMLineIndex, id: candidate.sdpMid, candidate: candidate.candidate });
    });
  };
  const describe = async (kind) => {
    await call.pc.setLocalDescription(await call.pc[kind]());
    const { type, sdp } = call.pc.localDescription;
    say({ type, sdp });
  };
  const begin = async () => {
    open();
    await describe("createOffer");
  };
  const hear = async (message) => {
    if (message.type === "offer" && !call.initiator) {
      if (!call.pc) open();
      await call.pc.setRemoteDescription(message);
      await describe("createAnswer");
    } else if (message.type === "answer" && call.initiator) {
      await call.pc.setRemoteDescription(message);
    } else if (message.type === "candidate") {
      await call.pc.addIceCandidate({ sdpMLineIndex: message.label, candidate: message.candidate });
    } else if (message.type === "bye") {
      call.pc?.close();
      call.initiator = true;
      await begin();
    } else {
      call.unexpected.push(message.type);
    }
  };
  let heard = Promise.resolve();
  const next = (text) => { heard = heard.then(() => hear(JSON.parse(text))).catch((error) => call.unexpected.push(error.message)); };
  socket.addEventListener("message", ({ data }) => { if (JSON.parse(data).msg) next(JSON.parse(data).msg); });
  if (call.initiator) await begin();
  else params.messages.forEach(next);
  call.hangUp = async () => {
    await fetch(`/leave/${room}/${params.client_id}`, { method: "POST" });
    socket.send(JSON.stringify({ cmd: "send", msg: JSON.stringify({ type: "bye" }) }));
    socket.close();
    call.pc.close();
    await fetch(`${params.wss_post_url}/${room}/${params.client_id}`, { method: "DELETE" });
  };
  call.frames = async () => {
    const stats = [...(await call.pc.getStats()).values()];
    return stats.find((stat) => stat.type === "inbound-rtp" && stat.kind === "video")?.framesDecoded ?? 0;
  };
  window.call = call;
};
