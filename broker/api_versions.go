package broker

import (
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// softwareName is what clients may call their software, as Kafka checks it.
var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

// feature is one that a client may ask about.
type feature struct {
	name      string
	min, max  int16 // supported
	finalized int16
	needs     int16 // the API without which the feature is not told of
}

// transaction.version 2 lets producers use the KIP-890 protocol; metadata.version is what tools print, at the level of Kafka 4.0.
var features = []feature{
	{"metadata.version", 7, 25, 25, keyAPIVersions},
	{"transaction.version", 0, 2, 2, 26},
	{"group.version", 0, 1, 1, 68},
}

// ApiVersions (key 18), versions 0–4. The answer's header is never flexible, whatever the version: a client reads it before it
// knows what we speak. A version above ours is answered in the form of version 0 with UNSUPPORTED_VERSION, and the client asks
// again. Features whose lowest version is 0 are left out below v4: older Java clients refuse them.
func serveAPIVersions(b *Broker, c *conn, r *request) (response, error) {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.FinalizedFeaturesEpoch = 1 // Java ignores features of a negative epoch
	for _, row := range b.routes {
		if row != nil {
			resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: row.key, MinVersion: row.min, MaxVersion: row.max})
		}
	}
	req, ok := r.body.(*kmsg.ApiVersionsRequest)
	if !ok {
		r.version = 0
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		return answer(resp), nil
	}
	if req.Version >= 3 && (!softwareName.MatchString(req.ClientSoftwareName) || !softwareName.MatchString(req.ClientSoftwareVersion)) {
		return answer(&kmsg.ApiVersionsResponse{ErrorCode: kerr.InvalidRequest.Code, FinalizedFeaturesEpoch: -1}), nil
	}
	for _, f := range features {
		if b.routes.find(f.needs) == nil {
			continue
		}
		if f.min > 0 || req.Version >= 4 {
			resp.SupportedFeatures = append(resp.SupportedFeatures, kmsg.ApiVersionsResponseSupportedFeature{Name: f.name, MinVersion: f.min, MaxVersion: f.max})
		}
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, kmsg.ApiVersionsResponseFinalizedFeature{Name: f.name, MinVersionLevel: f.finalized, MaxVersionLevel: f.finalized})
	}
	return answer(resp), nil
}
