package qmp

import "context"

// CPUDefinition is a processor model that a QEMU knows (CpuDefinitionInfo in
// qapi/machine-target.json).
type CPUDefinition struct {
	Name string `json:"name"`
	// Unavailable are the features of the model that cannot be had here.
	Unavailable []string `json:"unavailable-features"`
}

// QueryCPUDefinitions lists the models that QEMU knows, as its machine type has them
// and its accelerator can run them.
func (m *Monitor) QueryCPUDefinitions(ctx context.Context) ([]CPUDefinition, error) {
	var d []CPUDefinition
	err := m.Execute(ctx, "query-cpu-definitions", nil, &d)
	return d, err
}

// CPUModel is a processor model with properties of it.
type CPUModel struct {
	Name  string         `json:"name"`
	Props map[string]any `json:"props,omitempty"`
}

// ExpandCPUModel returns all properties that a model has here: features are those of
// them that are true.
func (m *Monitor) ExpandCPUModel(ctx context.Context, model CPUModel) (CPUModel, error) {
	var r struct {
		Model CPUModel `json:"model"`
	}
	args := struct {
		Type  string   `json:"type"`
		Model CPUModel `json:"model"`
	}{"full", model}
	err := m.Execute(ctx, "query-cpu-model-expansion", args, &r)
	return r.Model, err
}
