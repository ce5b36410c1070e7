package broker

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// UpdateFeatures (key 57), versions 0–2. The levels of features are fixed: to ask for the level that a feature has is no change and
// succeeds, anything else fails, and with it the whole request, as in Kafka. Ignored: timeout, kind of update.
// Errors: INVALID_UPDATE_VERSION; below v2 per feature, too.
func serveUpdateFeatures(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.UpdateFeaturesRequest)
	resp := kmsg.NewPtrUpdateFeaturesResponse()
	for _, u := range req.FeatureUpdates {
		if err := checkFeature(u); err != nil && resp.ErrorCode == 0 {
			resp.ErrorCode, resp.ErrorMessage = errorCode(err), errorText(err)
		}
	}
	for _, u := range req.FeatureUpdates {
		result := kmsg.NewUpdateFeaturesResponseResult()
		result.Feature, result.ErrorCode, result.ErrorMessage = u.Feature, resp.ErrorCode, resp.ErrorMessage
		resp.Results = append(resp.Results, result)
	}
	return answer(resp), nil
}

func checkFeature(u kmsg.UpdateFeaturesRequestFeatureUpdate) error {
	i := slices.IndexFunc(features, func(f feature) bool { return f.name == u.Feature })
	if i < 0 {
		return refuse(kerr.InvalidUpdateVersion, "this broker does not have the feature %q", u.Feature)
	}
	if f := features[i]; u.MaxVersionLevel != f.finalized {
		return refuse(kerr.InvalidUpdateVersion, "feature %s is at level %d and stays there", f.name, f.finalized)
	}
	return nil
}
