// SIP.js phones in one page, for tests.harness.chromium: window.phones[name] after await window.start(...).
import { SimpleUser } from "./sip.js/platform/web/index.js";

// a tone is what such filters take for noise
const AS_IT_IS = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

window.phones = {};

class Phone {
    constructor(name, server, aor, login, password) {
        this.events = [];
        const note = (event) => () => this.events.push(event);
        this.user = new SimpleUser(server, {
            aor,
            media: { constraints: { audio: AS_IT_IS, video: false }, remote: { audio: document.getElementById("remote") } },
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

    // whether this happened since it was last asked for
    take(event) {
        const place = this.events.indexOf(event);
        if (place < 0) return false;
        this.events.splice(place, 1);
        return true;
    }

    // as when the network is gone: nobody says goodbye
    drop() {
        this.user.sessionManager.userAgent.transport.ws.close();
    }

    // the loudest frequency that comes from the other side, in Hz; 0 for silence
    async tone() {
        const receiver = this.user.session?.sessionDescriptionHandler?.peerConnection?.getReceivers()[0];
        if (!receiver) return 0;
        if (this.heard !== receiver.track) {
            this.heard = receiver.track;
            const context = new AudioContext();
            await context.resume();
            this.analyser = context.createAnalyser();
            this.analyser.fftSize = 8192;
            context.createMediaStreamSource(new MediaStream([receiver.track])).connect(this.analyser);
        }
        const levels = new Float32Array(this.analyser.frequencyBinCount);
        this.analyser.getFloatFrequencyData(levels); // dB
        const best = levels.indexOf(levels.reduce((a, b) => Math.max(a, b)));
        return levels[best] > -60 ? (best * this.analyser.context.sampleRate) / this.analyser.fftSize : 0;
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
