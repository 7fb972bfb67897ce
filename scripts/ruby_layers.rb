# frozen_string_literal: true

# Holds the gem's files in layers and forbids circles, as import-linter does for Python. `ruby scripts/ruby_layers.rb`
# prints each breach and exits 1. A file uses another one if it requires the other or names a class or module of the other.

require "ripper"

LONGEST = 250

# A folder of rooms, from the top: a room may use the rooms below it, never one above. Each file at its root is a room.
# `inside` is the module that its files know each other in.
Tree = Struct.new(:folder, :inside, :layers) do
  def root = File.expand_path("../sidecar/lib/#{folder}", __dir__)
end

TREES = [
  Tree.new("sidekiq_bridge/sidecar", %w[SidekiqBridge Sidecar], %w[cli settings process monitoring boot http stream execution sidekiq logs percent errors version]),
  # An app's own processes load these files, without the sidecar.
  Tree.new("sidekiq_bridge", %w[SidekiqBridge], %w[web batches limits moves results stock scripts])
].freeze

# "http" for http/api.rb, "cli" for cli.rb.
def room(path) = path[%r{\A\w+}]

def tokens(tree, path) = Ripper.lex(File.read(File.join(tree.root, path))).map { |_, type, text, _| [type, text] }

# Classes and modules directly inside the tree's module: the names by which files know each other.
def definitions(tree, path)
  depth = tree.inside.size
  Ripper.sexp(File.read(File.join(tree.root, path))).then { |node| names_at(node, []) }.filter_map { |name| name[depth] if name.size == depth + 1 }.uniq
end

def names_at(node, outer)
  return [] unless node.is_a?(Array)
  return node.flat_map { |child| names_at(child, outer) } unless %i[class module].include?(node[0]) && node[1].is_a?(Array)
  own = outer + [node[1].flatten.grep(String).last]
  [own, *node.drop(2).flat_map { |child| names_at(child, own) }]
end

# Constants that a file reads by their bare name, or below the tree's module: neither ::Sidekiq nor the Client of Puma::Client.
def constants(tree, path)
  significant = tokens(tree, path).reject { |type, _| %i[on_sp on_comment on_nl on_ignored_nl].include?(type) }
  significant.each_cons(3).filter_map do |before, operator, (type, text)|
    next unless type == :on_const
    text unless operator[1] == "::" && before[1] != tree.inside.last
  end.uniq
end

def requires(tree, path)
  File.read(File.join(tree.root, path)).scan(%r{require[ (]"#{tree.folder}/([\w/]+)"}).flatten.map { |name| "#{name}.rb" }
end

def uses(tree, files)
  homes = files.flat_map { |path| definitions(tree, path).map { |name| [name, path] } }.group_by(&:first).transform_values { |pairs| pairs.map(&:last) }
  files.to_h do |path|
    named = constants(tree, path).flat_map { |name| homes.fetch(name, []).then { |paths| paths.include?(path) ? [] : paths.min_by(1, &:size) } }
    [path, (requires(tree, path) + named).uniq - [path]]
  end
end

def layer_breaches(tree, used)
  used.flat_map do |path, others|
    next ["#{room(path)} is in no layer of #{tree.folder}: add it to TREES"] unless tree.layers.include?(room(path))
    others.filter_map do |other|
      next "#{path} uses #{other}, which is in no layer of #{tree.folder}" unless tree.layers.include?(room(other))
      "#{path} uses #{other}, a room above it" if tree.layers.index(room(other)) < tree.layers.index(room(path))
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

def size_breaches(tree, files)
  files.filter_map do |path|
    lines = File.foreach(File.join(tree.root, path)).count
    "#{path} has #{lines} lines, more than #{LONGEST}: split it by what it does" if lines > LONGEST
  end
end

breaches = TREES.flat_map do |tree|
  others = TREES.map { |each| each.folder.delete_prefix("#{tree.folder}/") } - [tree.folder]
  files = Dir.glob("**/*.rb", base: tree.root).reject { |path| others.include?(room(path)) }.sort
  used = uses(tree, files)
  layer_breaches(tree, used) + circle_breaches(used) + size_breaches(tree, files)
end
puts breaches
exit breaches.empty?
