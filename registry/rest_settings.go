package registry

import (
	"net/http"
	"strings"
)

// configAnswer is the answer to a change of configuration: it spells the level differently from the answer to a
// question about it, as Confluent's does.
type configAnswer struct {
	Compatibility string `json:"compatibility,omitempty"`
	configValue
}

func getConfig(c *core, r *http.Request) (any, error) {
	subject := pathSubject(r)
	v, ok := c.state.config(subject)
	v.Subject = ""
	if v.CompatibilityLevel != "" {
		return v, nil
	}
	if subject != "" && !flag(r.URL.Query(), "defaultToGlobal") {
		if ok {
			return v, nil
		}
		return nil, fail(codeNoSubjectCompatibility, "Subject '%s' does not have subject-level compatibility configured", subject)
	}
	v.CompatibilityLevel = string(c.level(subject))
	return v, nil
}

func putConfig(c *core, r *http.Request) (any, error) {
	var u configUpdate
	if err := body(r, &u); err != nil {
		return nil, err
	}
	v, err := c.setConfig(r.Context(), pathSubject(r), u)
	if err != nil {
		return nil, err
	}
	answer := configAnswer{Compatibility: v.CompatibilityLevel, configValue: v}
	answer.Subject, answer.CompatibilityLevel = "", ""
	return answer, nil
}

func removeConfig(c *core, r *http.Request) (any, error) {
	v, err := c.deleteConfig(r.Context(), pathSubject(r))
	v.Subject = ""
	return v, err
}

func listContexts(c *core, r *http.Request) (any, error) {
	q := r.URL.Query()
	list := []string{}
	for _, context := range c.state.contexts() {
		if strings.HasPrefix(context, q.Get("contextPrefix")) {
			list = append(list, context)
		}
	}
	return page(q, list), nil
}

func removeContext(c *core, r *http.Request) (any, error) {
	context, err := cleanContext(r.PathValue("context"))
	if err != nil {
		return nil, err
	}
	return noContent{}, c.deleteContext(r.Context(), context)
}

func getClusterID(c *core, r *http.Request) (any, error) {
	id, err := c.log.clusterID(r.Context())
	if err != nil {
		return nil, storeError(err)
	}
	return map[string]any{"id": "", "scope": map[string]any{"path": []string{},
		"clusters": map[string]string{"kafka-cluster": id, "schema-registry-cluster": "schema-registry"}}}, nil
}

func getServerVersion(*core, *http.Request) (any, error) {
	return map[string]string{"version": "8.0.0", "commitId": "leat"}, nil
}

func getDeployment(*core, *http.Request) (any, error) {
	return map[string][]string{"attributes": {}}, nil
}
