package registry

import (
	"net/http"
	"slices"
	"strings"
)

// configAnswer is the answer to a change of configuration: it spells the level differently from the answer to a
// question about it, as Confluent's does.
type configAnswer struct {
	Alias              string `json:"alias,omitempty"`
	Normalize          *bool  `json:"normalize,omitempty"`
	ValidateFields     *bool  `json:"validateFields,omitempty"`
	Compatibility      string `json:"compatibility,omitempty"`
	CompatibilityGroup string `json:"compatibilityGroup,omitempty"`
}

func getConfig(c *core, r *http.Request) (any, error) {
	subject := r.PathValue("subject")
	v, ok := c.state.config(subject)
	v.Subject = ""
	if subject == "" || ok && v.CompatibilityLevel != "" {
		if v.CompatibilityLevel == "" {
			v.CompatibilityLevel = string(Backward)
		}
		return v, nil
	}
	if !flag(r.URL.Query(), "defaultToGlobal") {
		if ok {
			return v, nil
		}
		return nil, fail(codeNoSubjectCompatibility, "Subject '%s' does not have subject-level compatibility configured", subject)
	}
	level, _ := c.level(subject)
	v.CompatibilityLevel = string(level)
	return v, nil
}

func putConfig(c *core, r *http.Request) (any, error) {
	var u configUpdate
	if err := body(r, &u); err != nil {
		return nil, err
	}
	v, err := c.setConfig(r.Context(), r.PathValue("subject"), u)
	if err != nil {
		return nil, err
	}
	return configAnswer{Alias: v.Alias, Normalize: v.Normalize, ValidateFields: v.ValidateFields,
		Compatibility: v.CompatibilityLevel, CompatibilityGroup: v.CompatibilityGroup}, nil
}

func removeConfig(c *core, r *http.Request) (any, error) {
	v, err := c.deleteConfig(r.Context(), r.PathValue("subject"))
	v.Subject = ""
	return v, err
}

func getMode(c *core, r *http.Request) (any, error) {
	subject := r.PathValue("subject")
	mode, ok := c.state.mode(subject)
	if !ok && subject != "" {
		if !flag(r.URL.Query(), "defaultToGlobal") {
			return nil, fail(codeNoSubjectMode, "Subject '%s' does not have subject-level mode configured", subject)
		}
		mode, ok = c.state.mode("")
	}
	if !ok {
		mode = "READWRITE"
	}
	return modeValue{Mode: mode}, nil
}

// putMode refuses: modes that came with the topic are kept to, but this registry does not change them yet.
func putMode(_ *core, r *http.Request) (any, error) {
	var v modeValue
	if err := body(r, &v); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"READWRITE", "READONLY", "IMPORT", "FORWARD"}, strings.ToUpper(v.Mode)) {
		return nil, fail(42204, "Invalid mode. Valid values are READWRITE, READONLY, IMPORT and FORWARD.")
	}
	return nil, fail(codeOperationNotPermitted, "Mode changes are not allowed")
}

func listContexts(*core, *http.Request) (any, error) { return []string{"."}, nil }

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
