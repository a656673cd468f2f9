// SIP.js phones in one page, for tests.harness.chromium: window.phones[name] after await window.start(...).
import { SimpleUser } from "./sip.js/platform/web/index.js";

window.phones = {};

class Phone {
    constructor(name, server, aor, login, password) {
        this.events = [];
        const note = (event) => () => this.events.push(event);
        this.user = new SimpleUser(server, {
            aor,
            media: { constraints: { audio: true, video: false }, remote: { audio: document.getElementById("remote") } },
            registererOptions: { regId: 1, instanceId: crypto.randomUUID() }, // RFC 5626
            userAgentOptions: {
                authorizationUsername: login,
                authorizationPassword: password,
                logLevel: "debug",
                sessionDescriptionHandlerFactoryOptions: { iceGatheringTimeout: 500 },
            },
            delegate: {
                onCallReceived: note("received"),
                onCallAnswered: note("answered"),
                onCallHangup: note("hangup"),
                onRegistered: note("registered"),
                onUnregistered: note("unregistered"),
                onServerDisconnect: note("disconnected"),
            },
        });
    }

    // as when the network is gone: nobody says goodbye
    drop() {
        this.user.sessionManager.userAgent.transport.ws.close();
    }

    // packets of audio that came from the other side
    async received() {
        const connection = this.user.session?.sessionDescriptionHandler?.peerConnection;
        if (!connection) return 0;
        let packets = 0;
        (await connection.getStats()).forEach((each) => {
            if (each.type === "inbound-rtp") packets += each.packetsReceived;
        });
        return packets;
    }
}

window.start = async (name, server, aor, login, password) => {
    const phone = (window.phones[name] = new Phone(name, server, aor, login, password));
    await phone.user.connect();
    await phone.user.register();
};
window.ready = true;
