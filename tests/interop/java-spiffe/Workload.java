// java-spiffe's Workload API client: prints what the API has as one line of JSON, then a line for each
// update, until it is killed.
//
//	java Workload.java SOCKET AUDIENCE SUBJECT

import com.nimbusds.jose.util.JSONObjectUtils;
import io.spiffe.bundle.jwtbundle.JwtBundleSet;
import io.spiffe.bundle.x509bundle.X509BundleSet;
import io.spiffe.spiffeid.SpiffeId;
import io.spiffe.spiffeid.TrustDomain;
import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.svid.x509svid.X509Svid;
import io.spiffe.workloadapi.DefaultWorkloadApiClient;
import io.spiffe.workloadapi.DefaultX509Source;
import io.spiffe.workloadapi.Watcher;
import io.spiffe.workloadapi.WorkloadApiClient;
import io.spiffe.workloadapi.X509Context;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;

public final class Workload {
    public static void main(String[] arguments) throws Exception {
        String socket = "unix:" + arguments[0];
        String audience = arguments[1];
        SpiffeId subject = SpiffeId.parse(arguments[2]);
        TrustDomain domain = subject.getTrustDomain();
        WorkloadApiClient client =
                DefaultWorkloadApiClient.newClient(
                        DefaultWorkloadApiClient.ClientOptions.builder().spiffeSocketPath(socket).build());
        Map<String, Object> said = new HashMap<>();
        X509Context context = client.fetchX509Context();
        said.put("ids", sorted(context, svid -> svid.getSpiffeId().toString()));
        said.put("hints", sorted(context, X509Svid::getHint));
        X509BundleSet bundles = client.fetchX509Bundles();
        said.put("authorities", bundles.getBundleForTrustDomain(domain).getX509Authorities().size());
        JwtBundleSet keys = client.fetchJwtBundles();
        said.put("keys", keys.getBundleForTrustDomain(domain).getJwtAuthorities().size());
        JwtSvid token = client.fetchJwtSvid(subject, audience);
        said.put("token", token.getSpiffeId().toString());
        said.put("validated", client.validateJwtSvid(token.getToken(), audience).getSpiffeId().toString());
        // By itself, with the keys of the bundle.
        JwtSvid parsed = JwtSvid.parseAndValidate(token.getToken(), keys, Set.of(audience));
        said.put("parsed", parsed.getSpiffeId().toString());
        said.put("refused", refused(() -> client.validateJwtSvid(token.getToken(), "another")));
        SpiffeId foreign = SpiffeId.fromSegments(domain, "not", "mine");
        said.put("foreign", refused(() -> client.fetchJwtSvid(foreign, audience)));
        say(said);
        // The source that its users hold sees a rotation by itself.
        DefaultX509Source source =
                DefaultX509Source.newSource(
                        DefaultX509Source.X509SourceOptions.builder()
                                .spiffeSocketPath(socket)
                                .svidPicker(all -> pick(all, subject))
                                .build());
        client.watchX509Context(
                new Watcher<>() {
                    @Override
                    public void onUpdate(X509Context update) {
                        say(Map.of("serials", sorted(update, Workload::serial), "source", serial(source.getX509Svid())));
                    }

                    @Override
                    public void onError(Throwable error) {
                        say(Map.of("error", error.toString()));
                    }
                });
        new CountDownLatch(1).await();
    }

    private static X509Svid pick(List<X509Svid> all, SpiffeId id) {
        return all.stream().filter(svid -> svid.getSpiffeId().equals(id)).findFirst().orElseThrow();
    }

    private static String serial(X509Svid svid) {
        return svid.getLeaf().getSerialNumber().toString(16);
    }

    private static List<String> sorted(X509Context context, java.util.function.Function<X509Svid, String> what) {
        return context.getX509Svids().stream().map(what).sorted().toList();
    }

    private static String refused(Callable<?> call) {
        try {
            call.call();
            return "not refused";
        } catch (Exception error) {
            // Why stands in what it was caused by.
            StringBuilder all = new StringBuilder();
            for (Throwable one = error; one != null; one = one.getCause()) {
                all.append(one).append("; ");
            }
            return all.toString();
        }
    }

    private static synchronized void say(Map<String, Object> what) {
        System.out.println(JSONObjectUtils.toJSONString(what));
        System.out.flush();
    }
}
