// Two roads to the kernel.
//
// A cell that runs may block the first road, the widget's own messages. What is not answered there
// in a quarter of a second goes by the second: a socket of its own to the kernel's control channel,
// where JupyterLab and Notebook 7 say how to reach it. The rule here: a question has a name (`rid`),
// so it may arrive twice; and whoever asks learns if it did not arrive at all.

const SECOND_ROAD_MS = 250;
const LATE_MS = 1500;
const GIVE_UP_MS = 8000;

export const random = () => crypto.getRandomValues(new Uint32Array(2)).join("-");

function socketAddress(kernel, session) {
  const text = document.getElementById("jupyter-config-data")?.textContent;
  const { baseUrl, wsUrl, token } = JSON.parse(text ?? "{}");
  if (!kernel || !baseUrl) return null;
  const base = new URL(wsUrl || baseUrl, location.href);
  const address = new URL(`${base.pathname}api/kernels/${kernel}/channels`, base);
  address.protocol = address.protocol.replace("http", "ws");
  address.search = new URLSearchParams({ session_id: session, ...(token && { token }) });
  return address;
}

// Ask on the control channel; the socket gets all that the kernel says, so it is closed at once.
function askByControl(kernel, content, onAnswer) {
  const session = random();
  const address = socketAddress(kernel, session);
  if (!address) return;
  const date = new Date().toISOString();
  const msg_type = "queuectl_request";
  const header = { msg_id: session, msg_type, session, username: "", version: "5.3", date };
  const message = { channel: "control", header, content, parent_header: {}, metadata: {}, buffers: [] };
  const socket = new WebSocket(address);
  const close = () => socket.close();
  setTimeout(close, GIVE_UP_MS);
  socket.onopen = () => socket.send(JSON.stringify(message));
  socket.onmessage = ({ data }) => {
    const reply = typeof data === "string" && JSON.parse(data);
    if (reply.parent_header?.msg_id !== session || reply.msg_type !== "queuectl_reply") return;
    close();
    onAnswer(reply.content);
  };
}

// Return `ask`, which sends a question and promises its answer, and `hear`, which takes answers.
// `onLate` is called when one takes long.
export function makeRoad(model, view, onLate) {
  const open = new Map();
  const about = model.get("about");

  const hear = (answer) => {
    open.get(answer.rid)?.(answer);
  };

  const ask = (op, content) =>
    new Promise((resolve, reject) => {
      const rid = random();
      const question = { op, rid, view, ...content };
      question.table = about.table;
      const timers = [
        setTimeout(() => askByControl(about.kernel, question, hear), SECOND_ROAD_MS),
        setTimeout(() => onLate(op), LATE_MS),
        setTimeout(() => end(reject, new Error("no answer")), GIVE_UP_MS),
      ];
      const end = (settle, value) => {
        timers.forEach(clearTimeout);
        open.delete(rid);
        settle(value);
      };
      open.set(rid, (answer) => end(resolve, answer));
      model.send(question);
    });
  return { ask, hear };
}
