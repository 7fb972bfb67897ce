# frozen_string_literal: true

# Holds the sidecar's files in layers and forbids circles, as import-linter does for Python. `ruby scripts/ruby_layers.rb`
# prints each breach and exits 1. A file uses another one if it requires the other or names a class or module of the other.

require "ripper"

ROOT = File.expand_path("../sidecar/lib/sidekiq_bridge/sidecar", __dir__)
LONGEST = 250

# From the top: a room may use the rooms below it, never one above. Each file at the root is a room.
LAYERS = %w[cli settings process monitoring boot http stream execution sidekiq logs percent errors version].freeze

# "http" for http/api.rb, "cli" for cli.rb.
def room(path) = path[%r{\A\w+}]

def tokens(path) = Ripper.lex(File.read(File.join(ROOT, path))).map { |_, type, text, _| [type, text] }

# Classes and modules directly inside SidekiqBridge::Sidecar: the names by which files know each other.
def definitions(path)
  Ripper.sexp(File.read(File.join(ROOT, path))).then { |tree| names_at(tree, []) }.filter_map { |name| name[2] if name.size == 3 }.uniq
end

def names_at(node, outer)
  return [] unless node.is_a?(Array)
  return node.flat_map { |child| names_at(child, outer) } unless %i[class module].include?(node[0]) && node[1].is_a?(Array)
  own = outer + [node[1].flatten.grep(String).last]
  [own, *node.drop(2).flat_map { |child| names_at(child, own) }]
end

# Constants that a file reads by their bare name, or below Sidecar: neither ::Sidekiq nor the Client of Puma::Client.
def constants(path)
  significant = tokens(path).reject { |type, _| %i[on_sp on_comment on_nl on_ignored_nl].include?(type) }
  significant.each_cons(3).filter_map do |before, operator, (type, text)|
    next unless type == :on_const
    text unless operator[1] == "::" && before[1] != "Sidecar"
  end.uniq
end

def requires(path)
  File.read(File.join(ROOT, path)).scan(%r{require[ (]"sidekiq_bridge/sidecar/([\w/]+)"}).flatten.map { |name| "#{name}.rb" }
end

def uses(files)
  homes = files.flat_map { |path| definitions(path).map { |name| [name, path] } }.group_by(&:first).transform_values { |pairs| pairs.map(&:last) }
  files.to_h do |path|
    named = constants(path).flat_map { |name| homes.fetch(name, []).then { |paths| paths.include?(path) ? [] : paths.min_by(1, &:size) } }
    [path, (requires(path) + named).uniq - [path]]
  end
end

def layer_breaches(used)
  used.flat_map do |path, others|
    next ["#{room(path)} is in no layer: add it to LAYERS"] unless LAYERS.include?(room(path))
    others.filter_map do |other|
      "#{path} uses #{other}, a room above it" if LAYERS.index(room(other)) < LAYERS.index(room(path))
    end
  end.uniq
end

# Returns each circle once, beginning with its first file.
def circle_breaches(used)
  used.keys.filter_map do |start|
    way = way_back(used, start)
    "a circle: #{way.join(" -> ")}" if way && way.min == start
  end
end

def way_back(used, start)
  ways, seen = [[start]], {}
  while (way = ways.shift)
    used.fetch(way.last, []).each do |other|
      return [*way, other] if other == start
      ways << [*way, other] unless seen[other]
      seen[other] = true
    end
  end
end

files = Dir.glob("**/*.rb", base: ROOT).sort
used = uses(files)
breaches = layer_breaches(used) + circle_breaches(used)
files.each do |path|
  lines = File.foreach(File.join(ROOT, path)).count
  breaches << "#{path} has #{lines} lines, more than #{LONGEST}: split it by what it does" if lines > LONGEST
end
puts breaches
exit breaches.empty?
