// The Java peer of the interop tests: one mTLS side, one plain side, bytes between them.
//
//	java Peer.java serve --listen ADDR --forward ADDR ...   mTLS in, plain TCP out
//	java Peer.java dial  --listen ADDR --forward ADDR ...   plain TCP in, mTLS out
//
// with --cert, --key: our SVID; --bundle: the peer's CA in PEM; --peer: the only SPIFFE ID that is
// let through; --renew: after how many bytes it renews its keys (KeyUpdate), such as 2^20; the
// platform's default is 2^37. Prints one line, "listening", once it does. TLS and PKIX are the
// platform's own.

import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.Security;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

public final class Peer {
    /** The type of a URI in a certificate's subjectAltName. */
    private static final int URI = 6;

    private static final int BUFFER = 64 * 1024;

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (int at = 1; at + 1 < arguments.length; at += 2) {
            options.put(arguments[at], arguments[at + 1]);
        }
        if (options.containsKey("--renew")) {
            // Read when TLS is first used.
            Security.setProperty(
                    "jdk.tls.keyLimits", "AES/GCM/NoPadding KeyUpdate " + options.get("--renew"));
        }
        boolean serves = arguments[0].equals("serve");
        SSLContext context = context(options);
        String peer = options.get("--peer");
        String[] forward = options.get("--forward").split(":");
        InetAddress host = InetAddress.getByName(forward[0]);
        int port = Integer.parseInt(forward[1]);
        try (ServerSocket listener = listener(context, serves, options.get("--listen"))) {
            System.out.println("listening");
            while (true) {
                Socket accepted = listener.accept();
                start(() -> {
                    Socket dialled = null;
                    try {
                        // Nothing is dialled for a peer that is not verified.
                        if (serves) {
                            verify((SSLSocket) accepted, peer);
                            dialled = new Socket(host, port);
                        } else {
                            dialled = context.getSocketFactory().createSocket(host, port);
                            verify((SSLSocket) dialled, peer);
                        }
                        relay(accepted, dialled);
                    } catch (IOException error) {
                        System.out.println("refused: " + error);
                        reset(accepted);
                        reset(dialled);
                    }
                });
            }
        }
    }

    private static ServerSocket listener(SSLContext context, boolean serves, String address)
            throws IOException {
        String[] parts = address.split(":");
        int port = Integer.parseInt(parts[1]);
        InetAddress host = InetAddress.getByName(parts[0]);
        if (!serves) {
            return new ServerSocket(port, 0, host);
        }
        var listener = (SSLServerSocket) context.getServerSocketFactory()
                .createServerSocket(port, 0, host);
        listener.setEnabledProtocols(new String[] {"TLSv1.3"});
        listener.setNeedClientAuth(true);
        return listener;
    }

    private static SSLContext context(Map<String, String> options) throws Exception {
        char[] nothing = {};
        KeyStore own = KeyStore.getInstance("PKCS12");
        own.load(null, nothing);
        own.setKeyEntry("own", key(options.get("--key")), nothing,
                certificates(options.get("--cert")));
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, nothing);
        for (Certificate certificate : certificates(options.get("--bundle"))) {
            trusted.setCertificateEntry("ca", certificate);
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(own, nothing);
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(trusted);
        SSLContext context = SSLContext.getInstance("TLSv1.3");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    private static PrivateKey key(String file) throws Exception {
        String pem = Files.readString(Path.of(file)).replaceAll("-----[^-]*-----", "");
        byte[] der = Base64.getMimeDecoder().decode(pem);
        return KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(der));
    }

    private static Certificate[] certificates(String file) throws Exception {
        try (InputStream input = new FileInputStream(file)) {
            return CertificateFactory.getInstance("X.509").generateCertificates(input)
                    .toArray(Certificate[]::new);
        }
    }

    /** Shakes hands; the certificate must carry the ID, and only that. */
    private static void verify(SSLSocket socket, String id) throws IOException {
        socket.setEnabledProtocols(new String[] {"TLSv1.3"});
        socket.startHandshake();
        var leaf = (X509Certificate) socket.getSession().getPeerCertificates()[0];
        try {
            if (!List.of(List.of(URI, id)).equals(List.copyOf(leaf.getSubjectAlternativeNames()))) {
                throw new IOException("the peer is " + leaf.getSubjectAlternativeNames());
            }
        } catch (java.security.cert.CertificateException error) {
            throw new IOException(error);
        }
    }

    /** Copies both ways; the end of one direction does not end the other. */
    private static void relay(Socket one, Socket other) {
        AtomicInteger open = new AtomicInteger(2);
        start(() -> pass(one, other, open));
        start(() -> pass(other, one, open));
    }

    private static void pass(Socket from, Socket to, AtomicInteger open) {
        byte[] buffer = new byte[BUFFER];
        try {
            InputStream input = from.getInputStream();
            OutputStream output = to.getOutputStream();
            for (int count; (count = input.read(buffer)) >= 0; ) {
                output.write(buffer, 0, count);
            }
            to.shutdownOutput();
            if (open.decrementAndGet() == 0) {
                from.close();
                to.close();
            }
        } catch (IOException error) {
            System.out.println("ended: " + error);
            reset(from);
            reset(to);
        }
    }

    private static void reset(Socket socket) {
        if (socket == null) {
            return;
        }
        try {
            if (!(socket instanceof SSLSocket)) {
                socket.setSoLinger(true, 0);
            }
            socket.close();
        } catch (IOException error) {
            // It is gone either way.
        }
    }

    private static void start(Runnable task) {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        thread.start();
    }
}
